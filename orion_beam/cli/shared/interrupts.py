"""Handling of Ctrl-C: it ends a command quietly and with exit code 130, whenever it comes.

Python raises KeyboardInterrupt between any two instructions. Within an import, an extension or Beam it turns into
another exception, or comes with a traceback of 200 lines. So an interrupt ends the process at once before a command
runs and while it is ending. In between, `is_hit` tells the results of an interrupt from a failure.
"""

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Never

INTERRUPTED = 130
"""Exit code that a shell reports for SIGINT."""

_GRACE_S = 5.0
_AGAIN_AFTER_S = 0.05
_LOOK_EVERY_S = 0.5

_is_hit = False


@contextmanager
def handled() -> Iterator[None]:
    """Take over SIGINT, unless other code handles it or it is ignored, as in the background."""
    if not _is_ours():
        yield
        return
    global _is_hit
    _is_hit = False
    _install(_end)
    try:
        yield
    finally:
        # After an interrupt, a second one must end whatever keeps Python from exiting.
        _install(_end if _is_hit else signal.default_int_handler)


def raise_from_now_on() -> None:
    """Make an interrupt raise KeyboardInterrupt from now on, because a command runs and must clean up."""
    if signal.getsignal(signal.SIGINT) is _end:
        _install(_raise)


def is_hit() -> bool:
    """Return whether an interrupt came while the command ran; by now, the command has cleaned up.

    After an interrupt, a second one ends the process at once, and a timer ends it after a few seconds: Python waits for
    Beam's threads, which may wait for something that the interrupt has ended.
    """
    if signal.getsignal(signal.SIGINT) is _raise:
        _install(_end)
    if _is_hit:
        last_call = threading.Timer(_GRACE_S, os._exit, (INTERRUPTED,))
        last_call.daemon = True
        last_call.start()
    return _is_hit


def clean_up_on_sigterm() -> None:
    """Make SIGTERM raise SystemExit, with the exit code that shells expect, so that a command cleans up.

    A process inherits blocked signals from the one that starts it, and would never hear of SIGTERM.
    """
    signal.signal(signal.SIGTERM, _exit)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def await_signal() -> Never:
    """Wait until a signal ends this command.

    `signal.pause` waits for ever when the signal arrives in another thread: Python handles it in the main thread, which
    does not wake up. So this wakes up by itself. SIGQUIT does not end the command: it prints where each thread stands,
    as a JVM does.
    """
    faulthandler.register(signal.SIGQUIT)
    while True:
        time.sleep(_LOOK_EVERY_S)


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _is_ours() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _install(handler: Callable[[int, FrameType | None], object]) -> None:
    signal.signal(signal.SIGINT, handler)


def _end(_: int, __: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _raise(_: int, __: FrameType | None) -> None:
    global _is_hit
    _is_hit = True
    # Errors of Beam, and of threads whose work was cut off, are of no interest now.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL + 1)
    threading.excepthook = lambda _: None
    sys.unraisablehook = _again_if_lost
    raise KeyboardInterrupt


def _again_if_lost(ignored: Any) -> None:
    """Interrupt again if Python has ignored an interrupt.

    Python ignores whatever is raised in a destructor or in a callback of a weak reference, which imports use much.
    """
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        again = threading.Timer(_AGAIN_AFTER_S, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()
