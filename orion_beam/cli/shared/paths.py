"""Paths on this machine that a command writes to."""

import re
from pathlib import Path

import typer

from orion_beam.errors import UserError

# A scheme has two letters or more, as one letter is a Windows drive. Path() turns `//` after it into `/`.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return an option's path.

    Raises:
        UserError: the path is the address of another file system, such as `s3://…`, which would become a local
            directory `s3:`.
    """
    if path is not None and _ADDRESS.match(str(path)):
        address = str(path).replace(":/", "://", 1)
        refused = "only files of this machine are written; write here and copy it there"
        raise UserError(f"{option.opts[0]} {address}: {refused}")
    return path
