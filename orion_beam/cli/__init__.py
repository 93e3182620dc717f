"""The command line, one file a command."""

from importlib import import_module

from orion_beam.cli.shared import interrupts


def start() -> None:
    """Run the command line. What it is made of is imported where Ctrl-C is handled already."""
    with interrupts.handled():
        import_module("orion_beam.cli.main").main()
