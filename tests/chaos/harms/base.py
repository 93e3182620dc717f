"""What all kinds of harm have in common."""

import random
from abc import ABC, abstractmethod
from typing import ClassVar

from tests.chaos.system import System


class Harm(ABC):
    """One harm: how it is caused, and how it is undone as an operator or supervisor would.

    A harm draws its targets when it is made, so that the same seed gives the same ones. What only the running system
    knows, such as who leads, it finds when it is caused.

    Attributes:
        kind: Name of the kind.
        lasts_s: Time between cause and undoing, in seconds. The clock of the recovery starts at its end.
        target: What is harmed, for the report.
    """

    kind: ClassVar[str]
    lasts_s: float = 0.0

    def __init__(self, draw: random.Random) -> None:  # noqa: ARG002
        """Draw the targets."""
        self.target = ""

    def impossible(self, system: System) -> str | None:  # noqa: ARG002
        """Return why this harm cannot be done on this machine; None if it can."""
        return None

    @abstractmethod
    def cause(self, system: System) -> None:
        """Do the harm."""

    def undo(self, system: System) -> None:  # noqa: B027
        """Undo it, or put a new one in the place of what has ended."""

    def __str__(self) -> str:
        """Return kind and target."""
        return f"{self.kind} {self.target}".strip()
