"""Guard that ends this process when its parent has ended: for Python what `ParentGuard` is for JVMs.

A program that is killed with SIGKILL cannot stop the `orion-beam` processes that it started. To have them end in that
case, it puts `build.guard_environment()` into their environment. Without that variable no parent is watched: a job that
was started from a terminal, by a service manager or in the background outlives its parent, as it should.
"""

import os
import signal
import sys
import threading
import time

import psutil

from orion_beam.runners.jars.build import PARENT_VARIABLE
from orion_beam.runners.local.processes import is_alive

_LOOK_EVERY_S = 0.5
_GRACE_S = 10.0
"""Time between SIGTERM and a forced exit."""
_PARENT_IS_GONE = 143  # exit code that a shell reports for SIGTERM


def end_with_parent() -> None:
    """Watch the process that ORION_PARENT_PID names, if set, and end this process by SIGTERM when that one has ended.

    Exits at once when there is no such process: it ended while this one started.
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
    while is_alive(parent):
        time.sleep(_LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(_PARENT_IS_GONE)
