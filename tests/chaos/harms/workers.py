"""Harms to worker pools that need other options or variables of theirs."""

import random
import time
import urllib.request
from email.utils import parsedate_to_datetime
from pathlib import Path

from tests.chaos.harms.base import Harm
from tests.chaos.system import TASK_MANAGERS, System

HOUR_S = 3_600
SQUEEZED_S = 40.0
_LEAK_MIB_A_SECOND = 20
_INSIDE = Path(__file__).parents[1] / "inside"
"""Where the module is that does a harm inside the processes of a pool."""
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
        pool = system.replace_pool(self._number, **clock, PYTHONPATH=str(_INSIDE))
        with urllib.request.urlopen(f"http://{pool.probes}/live") as answer:
            step_s = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
        assert abs(abs(step_s) - HOUR_S) < 60, f"the clock of the pool is {step_s:.0f} s off"  # noqa: PLR2004  # seconds

    def undo(self, system: System) -> None:
        system.replace_pool(self._number)


class WorkerMemoryLimit(Harm):
    """For 40 s the workers of a pool leak memory, and reach its limit: they are replaced."""

    kind = "worker-memory-limit"
    lasts_s = SQUEEZED_S

    def __init__(self, draw: random.Random) -> None:
        self._number = draw.choice(TASK_MANAGERS)
        self.target = str(self._number)

    def cause(self, system: System) -> None:
        leak = {"ORION_CHAOS_LEAK_MIB_A_SECOND": str(_LEAK_MIB_A_SECOND), "PYTHONPATH": str(_INSIDE)}
        self._pool = system.replace_pool(self._number, "--worker-memory", "512MiB", **leak)

    def undo(self, system: System) -> None:
        log = self._pool.log
        system.replace_pool(self._number)
        assert "and its limit is 512 MiB" in log, f"no worker has reached its limit: {log[-1_000:]}"


WORKER_HARMS: tuple[type[Harm], ...] = (ClockStep, WorkerMemoryLimit)
