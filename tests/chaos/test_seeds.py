"""Seeds that have found something once: they must find nothing now."""

import os
import time
from pathlib import Path

import pytest

from tests.chaos.run import run
from tests.chaos.system import RUN_VARIABLE

# What leaves out `deep` leaves out these, too.
pytestmark = [pytest.mark.deep, pytest.mark.chaos, pytest.mark.timeout(7_200)]

RATE = 100
_LINES = (Path(__file__).parent / "seeds.txt").read_text(encoding="utf-8").splitlines()
SEEDS = [line.split(maxsplit=2) for line in _LINES if line and not line.startswith("#")]


@pytest.mark.parametrize(("seed", "harms", "found"), SEEDS)
def test_a_seed_that_has_failed_once(
    seed: str, harms: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUN_VARIABLE, f"{os.getpid()}-{time.time():.0f}")
    outcome = run(tmp_path, int(seed), RATE, minutes=120, harms=int(harms))
    print(outcome.table())
    assert outcome.all_problems == [], found
