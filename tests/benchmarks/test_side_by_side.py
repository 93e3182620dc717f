"""`make bench` with ORION's own contenders: each runs by itself, on real Kafka and Flink, and its output is right."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTENDERS = ("orion", "orion-cluster", "orion-replay", "no-work")
RECORDS = 20_000


@pytest.mark.integration
@pytest.mark.deep
@pytest.mark.timeout(1_800)
def test_each_contender_of_ours_runs_unattended_and_gives_what_is_expected(tmp_path: Path) -> None:
    options = ["--contenders", ",".join(CONTENDERS), "--rounds", "1", "--records", str(RECORDS), "--seconds", "1"]
    command = [sys.executable, "-m", "benchmarks.side_by_side", *options, "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["missing"] == {}
    assert set(report["contenders"]) == set(CONTENDERS)
    for name, found in report["contenders"].items():
        (run,) = found["runs"]
        assert run["records"] == RECORDS, name
        assert run["problems"] == [], name
