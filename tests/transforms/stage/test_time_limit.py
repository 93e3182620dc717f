"""A stage that does not return: its bundle fails with one clear line, or its process ends."""

import subprocess
import sys

import pytest

_PROGRAM = """
import logging, re, sys, threading, time
import apache_beam as beam
from orion_beam.testing import raw_batch
from orion_beam.schemas.codes import Stage
from orion_beam.transforms.stage.batches import SplitBatch
from orion_beam.transforms.stage.rejects import no_rejects
from orion_beam.transforms.stage.split import StageFailedError, _SplitFn
from orion_beam.transforms.stage.time_limit import enforce_time_limits

logging.basicConfig(format="%(message)s", stream=sys.stdout)

def loops():
    while True:
        try:
            sum(range(100))
        except Exception:
            pass

def waits():
    threading.Event().wait(3_000)

def holds_the_lock():
    re.match("(a+)+$", "a" * 60 + "b")

def returns():
    pass

def prepared(hang):
    def split(batch):
        hang()
        return SplitBatch(batch, no_rejects())
    return split

# The timer outside Python must not come first where it is not wanted, also on a machine that stands still for a while.
enforce_time_limits(300.0 if "loops" in sys.argv else 1.0, look_every_s=0.05, grace_s=10)
for name in sys.argv[1:]:
    limit_s = 300.0 if name == "returns" else 1.0
    stage = _SplitFn(Stage.NORMALIZE, lambda: prepared(globals()[name]), "normalize", limit_s)
    stage.setup()
    try:
        out = list(stage.process(raw_batch("FR", [b"208011234567890"] * 9)))
        print(name, sum(batch.num_rows for batch in out), flush=True)
    except StageFailedError as error:
        print("failed:", error, flush=True)
"""


def ran(*stages: str) -> subprocess.CompletedProcess[str]:
    """Call stages one after the other, in a process that gives those that hang one second."""
    return subprocess.run([sys.executable, "-c", _PROGRAM, *stages], capture_output=True, text=True, timeout=600)


def test_a_stage_that_loops_fails_its_batch_and_says_where_and_the_worker_goes_on() -> None:
    done = ran("loops", "returns", "loops", "returns")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("failed")]
    assert len(lines) == 2
    for line in lines:
        assert "stage normalize has not finished a batch of 9 rows within 1 s: it stands at <string>:" in line
        assert "this is a bug of ours, please report it. No record is lost" in line
    assert done.stdout.count("returns 9") == 2
    assert "20801" not in done.stdout + done.stderr


@pytest.mark.parametrize("stage", ["waits", "holds_the_lock"])
def test_a_stage_that_cannot_be_interrupted_ends_its_worker_which_says_where_it_stood(stage: str) -> None:
    done = ran("returns", stage, "returns")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert done.stdout.count("returns 9") == 1, said
    # The timer outside Python also ends a worker that waits, when its own clock does not get to run. So it is under
    # coverage: a traced thread of Python 3.11 stands still while an exception is on its way to another thread.
    assert f"in {stage}" in said or (stage == "waits" and "cannot be interrupted: this worker ends" in said), said
    assert "20801" not in said
