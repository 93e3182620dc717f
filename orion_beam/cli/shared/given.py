"""Options and paths that the user gave, and the refusal of those that can have no effect."""

import re
from collections.abc import Iterable
from pathlib import Path

import typer

from orion_beam.errors import UserError

# A scheme has two letters or more, as one letter is a Windows drive. Path() turns `//` after it into `/`.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

_SOURCES = {"COMMANDLINE", "ENVIRONMENT"}


def given_options(context: typer.Context) -> dict[str, str]:
    """Return the options that the user gave, by the name of the parameter."""
    sources = {each: context.get_parameter_source(each.name) for each in context.command.params if each.name}
    return {str(each.name): each.opts[0] for each, source in sources.items() if source and source.name in _SOURCES}


def refuse_unused(context: typer.Context, parameters: Iterable[str], why: str) -> None:
    """Refuse options that were given but would have no effect.

    Args:
        context: Context of the command.
        parameters: Names of the options' parameters in the command's function.
        why: The condition under which they have no effect, such as `with --input`.

    Raises:
        UserError: such an option was given. The message names it.
    """
    useless = set(parameters)
    if unused := [option for name, option in given_options(context).items() if name in useless]:
        raise UserError(f"{', '.join(unused)}: no effect {why}; leave it out")


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
