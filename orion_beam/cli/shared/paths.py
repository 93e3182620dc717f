"""Paths that a command writes to: of this machine."""

import re
from pathlib import Path

import typer

from orion_beam.errors import UserError

# One letter is a drive's; of two slashes a path keeps one.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return an option's path.

    Raises:
        UserError: it is the address of another file system, such as `s3://…`, which would become a directory `s3:`.
    """
    if path is not None and _ADDRESS.match(str(path)):
        address = str(path).replace(":/", "://", 1)
        refused = "only files of this machine are written; write here and copy it there"
        raise UserError(f"{option.opts[0]} {address}: {refused}")
    return path
