"""The table at the end of a run."""

import json
from pathlib import Path

from tests.chaos.report import Met, Outcome

MET = [
    Met(1, "kill-worker", "", 0.0, recovery_s=4.0, duplicates=800),
    Met(2, "kill-worker", "", 60.0, recovery_s=8.0, duplicates=400),
    Met(3, "slow-broker", "2", 120.0, recovery_s=1.0, lost=2, problems=["it took long"]),
]


def test_a_row_tells_of_each_kind_and_a_problem_stands_below() -> None:
    outcome = Outcome(1, 400, met=MET, skipped={"clock-step": "libfaketime is not installed"})
    lines = [line.split() for line in outcome.table().splitlines()]
    assert ["kill-worker", "2", "6.0", "8.0", "1,200", "2.0", "0"] in lines
    assert ["slow-broker", "1", "1.0", "1.0", "0", "0.0", "2"] in lines
    assert ["all", "3", "4.0", "8.0", "1,200", "2.0", "2"] in lines
    assert "not done: clock-step: libfaketime is not installed" in outcome.table()
    assert "problem: 3 slow-broker: it took long" in outcome.table()


def test_the_figures_are_written_as_json(tmp_path: Path) -> None:
    Outcome(1, 400, met=MET).write(tmp_path / "new" / "chaos.json")
    written = json.loads((tmp_path / "new" / "chaos.json").read_text())
    assert written["seed"] == 1
    assert [one["kind"] for one in written["met"]] == ["kill-worker", "kill-worker", "slow-broker"]
