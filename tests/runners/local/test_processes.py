"""A process runs unless it has ended, is a zombie, or is a later one with the same id."""

import os
import subprocess
import sys

import psutil
import pytest

from orion_beam.runners.local.processes import find_alive, is_alive
from tests.integration.harness import await_until


def test_a_process_runs_until_it_is_a_zombie() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = psutil.Process(child.pid)
        created_s = process.create_time()
        assert (is_alive(process), is_alive(child.pid), find_alive(child.pid, created_s)) == (True, True, process)
        assert child.stdin is not None
        child.stdin.close()
        await_until(lambda: process.status() == psutil.STATUS_ZOMBIE, 600, "the process is a zombie")
        assert (is_alive(process), is_alive(child.pid), find_alive(child.pid, created_s)) == (False, False, None)
    # Reaped.
    assert (is_alive(process), is_alive(child.pid), find_alive(child.pid, created_s)) == (False, False, None)


def test_a_later_process_with_the_same_id_is_not_the_one_of_the_list() -> None:
    created_s = psutil.Process().create_time()
    assert find_alive(os.getpid(), created_s + 0.5) == psutil.Process()  # the clock was set by half a second
    assert find_alive(os.getpid(), created_s - 3600) is None


def test_a_process_whose_state_cannot_be_read_is_taken_for_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: psutil.Process) -> str:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "status", denied)
    assert is_alive(psutil.Process())
