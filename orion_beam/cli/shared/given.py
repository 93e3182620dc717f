"""Which options the user gave, and that none of them is without effect."""

from collections.abc import Iterable

import typer

from orion_beam.errors import UserError

_SOURCES = {"COMMANDLINE", "ENVIRONMENT"}


def given_options(context: typer.Context) -> dict[str, str]:
    """Return the options of a command that the user gave: parameter to option."""
    sources = {each: context.get_parameter_source(each.name) for each in context.command.params if each.name}
    return {str(each.name): each.opts[0] for each, source in sources.items() if source and source.name in _SOURCES}


def refuse_unused(context: typer.Context, parameters: Iterable[str], why: str) -> None:
    """Refuse options that were given and would change nothing.

    Args:
        context: of the command.
        parameters: their names in the command's function.
        why: when that is, such as `with --input`.

    Raises:
        UserError: one was given; names it.
    """
    useless = set(parameters)
    if unused := [option for name, option in given_options(context).items() if name in useless]:
        raise UserError(f"{', '.join(unused)}: no effect {why}; leave it out")
