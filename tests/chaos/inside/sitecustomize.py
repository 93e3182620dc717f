"""What a harm does inside the processes of a worker pool: Python runs this module first, if PYTHONPATH names its room.

A variable of the environment asks for each thing. No module of the product knows of it.
"""

import os
import select
import sys
import threading
import time

LEAK = "ORION_CHAOS_LEAK_MIB_A_SECOND"
"""How much more memory each worker takes every second."""

if "FAKETIME" in os.environ:
    # libfaketime 0.9.10 refuses the system call by which Python 3.11 sleeps, unless it changes the monotonic clock as
    # well. Then it forgets to change it for locks with a timeout, which never end.
    time.sleep = lambda seconds: select.select([], [], [], max(0.0, seconds)) and None


def _leak(mebibytes: int) -> None:
    held = []
    while True:
        held.append(b"x" * (mebibytes << 20))
        time.sleep(1)


if LEAK in os.environ and any(each.endswith("worker_pool.worker") for each in sys.orig_argv):
    threading.Thread(target=_leak, args=(int(os.environ[LEAK]),), daemon=True).start()
