"""The watch of `make bench` counts a contender's processes by kind, also those that have ended, and leaves none."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import quick
from benchmarks.quick import running
from benchmarks.side_by_side import Watch

BUSY = "import time\nwhile time.process_time() < 1: pass\nprint(time.process_time(), flush=True)\ninput()"
STANDS = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"


def busy() -> subprocess.Popen[str]:
    """Start a process that takes a second of CPU, says so, and waits."""
    return subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_cpu_and_memory_are_those_of_the_contender_and_not_of_the_broker() -> None:
    with busy() as broker, busy() as contender:
        watch = Watch(broker.pid)
        assert contender.stdout is not None
        taken_s = float(contender.stdout.readline())
        seen = watch.look()
        contender.communicate("\n")
        after = watch.look()
        broker.communicate("\n")
    assert seen["python"] == pytest.approx(taken_s, abs=0.3)
    assert after["python"] == seen["python"]
    assert after["jvm"] == 0
    assert watch.memory_mib.keys() == {"python"}
    assert watch.memory_mib["python"] > 1


def test_no_process_of_a_contender_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "_CHILDREN_TIMEOUT_S", 0)
    with running([sys.executable, "-c", STANDS], tmp_path / "log") as process:
        while not (children := process.children()):
            pass
    psutil.wait_procs(children, 600)
    assert not any(child.is_running() for child in children)
