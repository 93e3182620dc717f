"""`orion-beam generate`: what it refuses and what it writes. Kafka has its own tests."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from orion_beam.cli.generate import generate
from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.kafka import admin

app = typer.Typer()
app.command()(generate)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "out"], "give --count"),
        (["--count", "1"], "either --bootstrap-servers HOST:PORT or --output DIR"),
        (["--count", "1", "--output", "out", "--bootstrap-servers", "localhost:1"], "either --bootstrap-servers"),
        (["--count", "1", "--output", "out", "--countries", "FR,XX"], "unknown country 'XX': known are "),
        (["--count", "0", "--output", "out"], "--count must be at least 1"),
        (["--rate", "0", "--output", "out"], "--rate must be at least 0.001 records a second, not 0.0"),
        (["--rate", "1e-300", "--output", "out"], "--rate must be at least 0.001"),
        (["--rate", "nan", "--output", "out"], "--rate must be at least 0.001"),
        (["--count", "1", "--fault-rate", "1.1", "--output", "out"], "--fault-rate must be from 0 to 1"),
        (
            ["--count", "1", "--start", "yesterday", "--output", "out"],
            "--start yesterday is no time",
        ),
        (["--count", "1", "--start", "2026-11-22T10:00:00", "--output", "out"], "has no offset"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_does_not_answer_is_named_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "TIMEOUT_S", 1)
    result = run("--count", "1", "--bootstrap-servers", "127.0.0.1:1")
    assert isinstance(result.exception, PrerequisiteError)
    assert "Kafka at 127.0.0.1:1 does not answer" in str(result.exception)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("--count", "1", "--output", str(tmp_path / "file"))
    assert isinstance(result.exception, UserError)
    assert str(tmp_path / "file") in str(result.exception)


def test_files_hold_one_record_a_line_and_the_summary_says_how_many_are_bad(tmp_path: Path) -> None:
    options = ["--count", "4001", "--fault-rate", "0.1", "--start", "2026-11-22T18:00:00Z", "--json"]
    result = run(*options, "--output", str(tmp_path / "a"))
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    files = {"FR": "FR.csv", "MA": "MA.csv", "SN": "SN.txt", "TN": "TN.jsonl"}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(files.values())
    for country, name in files.items():
        lines = (tmp_path / "a" / name).read_bytes().split(b"\n")
        assert len(lines) - 1 == summary["countries"][country]["records"] == (1001 if country == "FR" else 1000)
        assert lines[-1] == b""
    assert summary["records"] == 4001
    assert summary["faulty"] == sum(sum(of["expected_codes"].values()) for of in summary["countries"].values())
    assert 300 < summary["faulty"] < 500

    run(*options, "--output", str(tmp_path / "b"))
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files.values())


def test_a_rate_is_kept(tmp_path: Path) -> None:
    result = run(
        "--countries", "fr, tn", "--rate", "1000", "--count", "500", "--json", "--output", str(tmp_path)
    )  # fmt: skip
    summary = json.loads(result.stdout)
    assert summary["records"] == 500
    # Never faster; how much slower is the machine's affair.
    assert summary["seconds"] >= 0.49


def test_help_shows_an_example() -> None:
    assert "orion-beam generate --countries FR,TN" in " ".join(run("--help").stdout.split())
