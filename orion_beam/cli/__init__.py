"""The command line, with one file per command."""

from importlib import import_module

from orion_beam.cli.shared import interrupts


def start() -> None:
    """Run the command line. Its modules are imported only after Ctrl-C is handled."""
    with interrupts.handled():
        import_module("orion_beam.cli.main").main()
