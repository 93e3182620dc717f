"""A command whose parent is killed ends, if the parent has asked for it, and goes on otherwise."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from orion_beam.runners.local.processes import is_alive

_CHILD = """
import signal, sys
from orion_beam.runners.flink_parts.parent_guard import end_with_parent
signal.signal(signal.SIGTERM, lambda *_: sys.exit("in good order"))
end_with_parent()
print("watching", flush=True)
signal.pause()
"""
_PARENT = """
import os, subprocess, sys
from orion_beam.runners.jars.build import guard_environment
variables = os.environ | eval(sys.argv[2])
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=variables, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@contextmanager
def orphan(environment: str) -> Iterator[tuple[psutil.Process, "subprocess.Popen[str]"]]:
    """Start a process that starts another, kill the first, and give out the second."""
    variables = {name: value for name, value in os.environ.items() if name != "ORION_PARENT_PID"}
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, _CHILD, environment],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    try:
        yield child, parent
    finally:
        if child.is_running():
            child.kill()
        parent.wait()
        parent.stdout.close()
        assert parent.stderr is not None
        parent.stderr.close()


def has_ended(process: psutil.Process, timeout_s: float) -> bool:
    """Return whether a process ends in time; who its parent is now, and whether that reaps it, makes no difference."""
    give_up = time.monotonic() + timeout_s
    while is_alive(process) and time.monotonic() < give_up:
        time.sleep(0.02)
    return not is_alive(process)


def test_a_command_ends_in_good_order_with_a_parent_that_is_killed() -> None:
    with orphan("guard_environment()") as (child, parent):
        # The dead parent is not reaped until the child is gone, as under a supervisor that is slow.
        assert has_ended(child, 120)
        assert parent.stderr is not None
        assert "in good order" in parent.stderr.read()


def test_a_command_goes_on_without_a_parent_that_has_not_asked_for_its_end() -> None:
    with orphan("{}") as (child, _):
        assert not has_ended(child, 1)


def test_a_command_whose_parent_is_gone_already_does_not_even_start() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    started = subprocess.run(
        [sys.executable, "-c", _CHILD],
        env=os.environ | {"ORION_PARENT_PID": str(gone.pid), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
        timeout=600,
    )
    assert (started.returncode, started.stdout) == (143, b"")
