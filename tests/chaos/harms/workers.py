"""Harms to worker pools that need other options or variables of theirs."""

import random
from pathlib import Path

from tests.chaos.harms.base import Harm
from tests.chaos.system import TASK_MANAGERS, System

HOUR_S = 3_600
SQUEEZED_S = 40.0
_FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


class ClockStep(Harm):
    """A pool is replaced by one whose clock is an hour off, and after 40 s by one whose clock is right."""

    kind = "clock-step"
    lasts_s = 40.0

    def __init__(self, draw: random.Random) -> None:
        self._number = draw.choice(TASK_MANAGERS)
        self._step = draw.choice(("+1h", "-1h"))
        self.target = f"{self._number}, {self._step}"

    def impossible(self, system: System) -> str | None:  # noqa: ARG002
        return None if _FAKETIME else "libfaketime is not installed"

    def cause(self, system: System) -> None:
        clock = {"LD_PRELOAD": str(_FAKETIME), "FAKETIME": self._step, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        system.replace_pool(self._number, **clock)

    def undo(self, system: System) -> None:
        system.replace_pool(self._number)


class WorkerMemoryLimit(Harm):
    """For 40 s a pool's limit of memory is a little below what its workers have taken: they are replaced."""

    kind = "worker-memory-limit"
    lasts_s = SQUEEZED_S

    def __init__(self, draw: random.Random) -> None:
        self._number = draw.choice(TASK_MANAGERS)
        self.target = str(self._number)

    def cause(self, system: System) -> None:
        mebibytes = system.memory_of_workers(self._number) * 9 // 10 >> 20
        system.replace_pool(self._number, "--worker-memory", f"{mebibytes}MiB")

    def undo(self, system: System) -> None:
        system.replace_pool(self._number)


WORKER_HARMS: tuple[type[Harm], ...] = (ClockStep, WorkerMemoryLimit)
