"""The command line, called as a user calls it."""

from tests.command import orion_beam

__all__ = ["orion_beam"]
