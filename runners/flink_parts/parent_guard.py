"""Ends this process when the one that started it has ended: what `ParentGuard` does for JVMs.

A program that starts `orion-beam` and is killed with SIGKILL cannot stop it. One that wants its children gone then
puts `build.guard_environment()` into their environment. Nobody else is watched: a job that is started from a
terminal, by a service manager or in the background goes on without its parent, as such programs should.
"""

import os
import signal
import sys
import threading
import time

import psutil

from orion_beam.runners.jars.build import PARENT_VARIABLE

_LOOK_EVERY_S = 0.5
_GRACE_S = 10.0
"""How long an orderly end may take."""
_PARENT_IS_GONE = 143  # what a shell reports for SIGTERM


def end_with_parent() -> None:
    """Watch the process that ORION_PARENT_PID names, if it is set, and end in good order when it has ended.

    Ends at once when there is no such process any more: it has ended while this one started.
    """
    named = os.environ.get(PARENT_VARIABLE, "").strip()
    if not named or int(named) == os.getpid():
        return
    try:
        parent = psutil.Process(int(named))
    except psutil.NoSuchProcess:
        sys.exit(_PARENT_IS_GONE)
    threading.Thread(target=_outlive, args=(parent,), name="orion-parent-guard", daemon=True).start()


def _outlive(parent: psutil.Process) -> None:
    while _is_alive(parent):
        time.sleep(_LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(_PARENT_IS_GONE)


def _is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        # It cannot be told this time: this thread must not end by that.
        return True
