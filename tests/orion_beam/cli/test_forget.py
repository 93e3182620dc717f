"""`orion-beam forget`: what it is given, before it asks a broker."""

from pathlib import Path

import pytest

from tests.command import Command, orion_beam

__all__ = ["orion_beam"]

IMSI = "208011234567890"


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("imsi", f"{IMSI}\n\n{IMSI}9\n", ":3: an IMSI has 14 or 15 digits"),
        ("imsi", f"\ufeff{IMSI};x\n", ":1: an IMSI has 14 or 15 digits"),
        ("msisdn", "0612345678\n", ":1: an MSISDN has 10 to 15 digits, calling code first"),
        ("imsi", "\n", "give --imsi-file or --msisdn-file, with a number on each line"),
    ],
)
def test_a_mistake_names_the_line_and_not_the_number(
    orion_beam: Command, tmp_path: Path, kind: str, content: str, message: str
) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text(content, encoding="utf-8")
    answer = orion_beam("forget", "--bootstrap-servers", "localhost:1", f"--{kind}-file", path)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
    assert not any(digits in answer.err for digits in ("2080112", "0612345678"))


def test_a_file_that_is_not_there_is_named(orion_beam: Command, tmp_path: Path) -> None:
    answer = orion_beam("forget", "--bootstrap-servers", "localhost:1", "--imsi-file", tmp_path / "none.txt")
    assert answer.code == 2
    assert "No such file" in answer.err


def test_a_country_whose_topic_is_not_known_is_not_left_out(
    orion_beam: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "countries").mkdir()
    (tmp_path / "orion.yaml").write_text("version: 1\n")
    (tmp_path / "countries" / "XX.toml").write_text("x")
    (tmp_path / "imsi.txt").write_text(IMSI)
    monkeypatch.chdir(tmp_path)
    answer = orion_beam("forget", "--bootstrap-servers", "localhost:1", "--imsi-file", "imsi.txt")
    assert (answer.code, "XX.toml" in answer.err) == (2, True)
