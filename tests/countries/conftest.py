"""What every country is held to, in a test file of its own: `orion-beam country new` writes one."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orion_beam.checks.golden import golden_lines
from orion_beam.cli.main import main
from orion_beam.countries import profiles_of
from orion_beam.inspect.conformance import check_country
from orion_beam.io.lines import records_among

TESTDATA = Path(__file__).parents[1] / "testdata"


@pytest.fixture
def golden_cases(tmp_path, monkeypatch, capsys, update_golden) -> Callable[[str], None]:
    """Run each line of `testdata/<country>/input.txt` through the real command and compare what becomes of it.

    `cases.txt` says of each line what it shows. `make golden` rewrites the expected files; review the difference.
    """

    def run(country: str) -> None:
        folder = TESTDATA / country.lower()
        cases = (folder / "cases.txt").read_text(encoding="utf-8").splitlines()
        reference = [f"--{name}={TESTDATA / 'reference' / name}.csv" for name in ("cells", "subscribers")]
        arguments = [
            "orion-beam",
            "run",
            "--input",
            f"{country}={folder / 'input.txt'}",
            "--received-at",
            "2026-06-01T12:00Z",
            "--output",
            str(tmp_path),
            "--json",
            *reference,
        ]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        found = {
            "expected_final.jsonl": golden_lines(tmp_path / "cdr.final.avro", cases),
            "expected_dead_letters.jsonl": golden_lines(tmp_path / "cdr.dlq.avro", cases),
        }
        for name, lines in found.items():
            if update_golden:
                (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
            assert lines == (folder / name).read_text(encoding="utf-8").splitlines()
        counts = json.loads(capsys.readouterr().out)
        assert [counts["final"], counts["dead_letters"]] == [len(lines) for lines in found.values()]
        assert counts["lines"] == len(cases)
        assert len(set(cases)) == len(cases)

    return run


@pytest.fixture
def conformance_kit() -> Callable[[str], None]:
    """Mutate a country's golden cases in every way that feeds are known to break."""

    def run(country: str) -> None:
        profile = profiles_of([country])[country]
        lines = (TESTDATA / country.lower() / "input.txt").read_bytes().split(b"\n")
        findings = list(check_country(profile, records_among(lines, profile)))
        assert [finding for finding in findings if finding.failures] == []

    return run
