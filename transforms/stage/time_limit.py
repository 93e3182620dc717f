"""Time limit of a stage: a stage that does not return fails its bundle, or ends its worker where that is impossible."""

import atexit
import ctypes
import faulthandler
import logging
import os
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Self

from orion_beam.transforms.stage.exceptions import place_in

TIME_LIMIT_S = 300.0
"""Longest time that a stage may take for a batch. The stages of ORION Beam take less than a second."""

_LOOK_EVERY_S = 1.0
_GRACE_S = 10.0
"""Time in which a thread that gets TimeUpError must have left its stage."""

_logger = logging.getLogger(__name__)
_lock = threading.Lock()
_running: dict[int, "TimeLimit"] = {}
"""The limits of the calls under way, by thread."""
_is_enforced = False


class TimeUpError(BaseException):
    """The time of a stage is up. It is raised in the thread of the stage, which must not take it for a bug of a row."""


class TimeLimit:
    """Limit for one call of a stage, in the thread that makes it. Without `enforce_time_limits` it does nothing.

    Raises TimeUpError in the block when the time is up.

    Args:
        stage: Name of the stage.
        rows: Rows of its batch.
        limit_s: The limit.
    """

    def __init__(self, stage: str, rows: int, limit_s: float) -> None:
        """Take the limit; the block starts the clock."""
        self._call = f"stage {stage} has not finished a batch of {rows:,} rows within {limit_s:,.0f} s"
        self.limit_s = limit_s
        self.ends_at = float("inf")
        self.place: str | None = None

    def __str__(self) -> str:
        """Return what has happened, and where in the code; never a value of a row."""
        return f"{self._call}: it stands at {self.place}"

    def __enter__(self) -> Self:
        """Start the clock."""
        if _is_enforced:
            self.ends_at = time.monotonic() + self.limit_s
            with _lock:
                _running[threading.get_ident()] = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clock. A TimeUpError that is under way arrives before this returns."""
        if _is_enforced:
            with _lock:
                _running.pop(threading.get_ident(), None)


def enforce_time_limits(
    longest_s: float = TIME_LIMIT_S, look_every_s: float = _LOOK_EVERY_S, grace_s: float = _GRACE_S
) -> None:
    """Enforce the limits in this process from now on. A worker calls this once.

    A stage that runs Python code gets TimeUpError. One that waits inside a library does not notice it: the process ends
    with one line that says why, and Flink repeats the bundle in another worker. A library that does not even let other
    threads run, such as a regular expression that backtracks without end, is noticed by a timer outside Python, which
    this process winds up again and again. It ends the process with the stacks of its threads: names of files and
    functions, and no values.

    Args:
        longest_s: Shortest time of that timer; a longer limit of a stage makes it longer.
        look_every_s: Time between two looks at the limits.
        grace_s: Time in which a thread that gets TimeUpError must have left its stage.
    """
    global _is_enforced
    _is_enforced = True
    atexit.register(faulthandler.cancel_dump_traceback_later)
    _wind_up(longest_s + 2 * grace_s)
    watch = threading.Thread(
        target=_watch, args=(longest_s, look_every_s, grace_s), name="orion-time-limits", daemon=True
    )
    watch.start()


def _wind_up(seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)


def _watch(longest_s: float, look_every_s: float, grace_s: float) -> None:
    while True:
        time.sleep(look_every_s)
        with _lock:
            for thread, limit in _running.items():
                _look_at(thread, limit, grace_s)
                longest_s = max(longest_s, limit.limit_s)
        _wind_up(longest_s + 2 * grace_s)


def _look_at(thread: int, limit: TimeLimit, grace_s: float) -> None:
    now = time.monotonic()
    if now < limit.ends_at:
        return
    if limit.place is None:
        frame = sys._current_frames().get(thread)
        limit.place = "?" if frame is None else place_in(traceback.extract_stack(frame))
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeUpError))
    elif now > limit.ends_at + grace_s:
        _logger.critical("%s, and cannot be interrupted: this worker ends", limit, extra={"event": "stage_hangs"})
        os._exit(1)
