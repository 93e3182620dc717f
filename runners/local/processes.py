"""Whether a process of this machine still runs, also one that another command started."""

import psutil

_CLOCK_STEP_S = 60.0
"""Difference of two creation times of one process: Linux counts them from boot, and the clock may be set meanwhile."""


def is_alive(process: psutil.Process | int) -> bool:
    """Return whether a process runs.

    A zombie (ended, but not yet reaped by its parent) does not run. A process whose state cannot be read does.

    Args:
        process: The process, or its id. Of a `Process`, psutil also sees that a later process has got its id.
    """
    try:
        found = psutil.Process(process) if isinstance(process, int) else process
        return bool(found.is_running() and found.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def find_alive(pid: int, created_s: float) -> psutil.Process | None:
    """Return the process of this id, if it runs and is not a later one with the same id.

    Args:
        pid: Process id, from a list that a command has kept.
        created_s: The process's `create_time()`, from the same list: seconds since the epoch.
    """
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - created_s) < _CLOCK_STEP_S
    except psutil.NoSuchProcess:
        return None
    return process if is_same and is_alive(process) else None
