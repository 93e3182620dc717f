"""What `orion-beam top` shows."""

from dataclasses import replace

import pytest
from rich.console import Console

from orion_beam.monitoring.monitor import Snapshot
from orion_beam.monitoring.view import top_view
from tests.orion_beam.monitoring.snapshots import AT_S, FLINK, snapshot

NAMES = {"FR": "France", "TN": "Tunisia", "SN": "Senegal"}


def shown(*history: Snapshot) -> str:
    console = Console(width=160, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as capture:
        console.print(top_view(history, NAMES))
    return capture.get()


def test_each_country_has_a_line_with_its_lag_and_rejects() -> None:
    lines = shown(snapshot()).splitlines()
    (france,) = [line for line in lines if "France" in line]
    assert "60 s" in france
    assert "malformed_payload 0.5" in france
    assert any("no topic" in line and "Senegal" in line for line in lines)
    assert any("5 checkpoints, the last took 0.2 s, 1 failed, 2 restarts" in line for line in lines)
    assert "http://127.0.0.1:1 does not answer" in shown(snapshot())


def test_where_a_country_is_held_up_stands_above_all_and_the_job_says_how_long() -> None:
    lines = shown(snapshot()).splitlines()
    assert "FR: the brokers hold back the workers, and they the read" in lines
    assert any("workers busy 100%, reads held back cdr.raw.FR 90%" in line for line in lines)
    assert "hold" not in shown(replace(snapshot(), pressed={}, jobs={}))


def test_a_job_that_stands_still_is_said_to_be_stuck() -> None:
    now = snapshot()
    stuck = replace(now, countries={"FR": replace(now.countries["FR"], standstill_s=300)})
    assert "stuck 5 min" in shown(stuck)


@pytest.mark.parametrize(
    ("state", "words"),
    [({"jobs": 0}, "no job"), ({"jobs": 2}, "2 jobs"), ({"unread_partitions": 4}, "4 unread")],
)
def test_what_is_wrong_with_the_jobs_takes_the_place_of_the_checkpoint(state: dict[str, int], words: str) -> None:
    now = snapshot()
    assert words not in shown(now)
    assert words in shown(replace(now, countries={"FR": replace(now.countries["FR"], **state)}))


def test_a_running_job_whose_tasks_wait_is_marked() -> None:
    now = snapshot()
    assert "do not run" not in shown(now)
    (job,) = now.jobs[FLINK] or ()
    waits = replace(job, tasks_waiting=4)
    assert not waits.runs
    assert "running, 4 tasks do not run, 5 checkpoints" in shown(replace(now, jobs={FLINK: (waits,)}))


def test_an_outage_is_said_first_and_leaves_gaps() -> None:
    down = shown(snapshot(), Snapshot(at_s=AT_S + 5))
    assert down.startswith("Kafka does not answer")
    assert "unknown" in down
    assert "·" in shown(Snapshot(at_s=AT_S - 5), snapshot())
