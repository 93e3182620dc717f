"""Ctrl-C ends a command quietly and with exit code 130, wherever it hits.

Python raises KeyboardInterrupt between any two instructions. Within an import, an extension or Beam it comes out as
something else, or with a traceback of 200 lines. So until a command runs, and again when it is ending, an interrupt
ends the process at once; and what comes of one in between is told from a failure by `is_hit`.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""What a shell reports for SIGINT."""

_GRACE_S = 5.0

_is_hit = False


@contextmanager
def handled() -> Iterator[None]:
    """Take over SIGINT, unless somebody else has, or it is ignored, as in the background."""
    if not _is_ours():
        yield
        return
    global _is_hit
    _is_hit = False
    _install(_end)
    try:
        yield
    finally:
        # After one that came, another one is for whatever keeps Python from ending.
        _install(_end if _is_hit else signal.default_int_handler)


def raise_from_now_on() -> None:
    """Let an interrupt raise KeyboardInterrupt: a command runs, and has things to put away."""
    if signal.getsignal(signal.SIGINT) is _end:
        _install(_raise)


def is_hit() -> bool:
    """Return whether an interrupt came while the command ran, which has put its things away by now.

    Then another one ends the process at once, and so does time: Python waits for Beam's threads, which may wait for
    what the interrupt has taken from them.
    """
    if signal.getsignal(signal.SIGINT) is _raise:
        _install(_end)
    if _is_hit:
        last_call = threading.Timer(_GRACE_S, os._exit, (INTERRUPTED,))
        last_call.daemon = True
        last_call.start()
    return _is_hit


def _is_ours() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _install(handler: Callable[[int, FrameType | None], object]) -> None:
    signal.signal(signal.SIGINT, handler)


def _end(_: int, __: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _raise(_: int, __: FrameType | None) -> None:
    global _is_hit
    _is_hit = True
    # What Beam, and threads that lose their work, make of it is no news.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL + 1)
    threading.excepthook = lambda _: None
    sys.unraisablehook = lambda _: None
    raise KeyboardInterrupt
