"""`orion-beam topics`: what is refused before a broker is asked. tests/integration has it on a cluster."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Answer

Call = Callable[..., Answer]


@pytest.mark.parametrize("command", ["plan", "apply", "verify"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--profile", "staging"], "the topic catalogue has no profile 'staging': it has development, production"),
        (["--countries", "fr,xx"], "--countries: unknown country 'XX'"),
        (["--catalogue", "nowhere.yaml"], "nowhere.yaml: No such file"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(orion_beam: Call, command: str, options: list[str], says: str) -> None:
    answer = orion_beam("topics", command, "--bootstrap-servers", "127.0.0.1:1", *options)
    assert answer.code == 2
    assert answer.err.startswith(f"orion-beam: error: {says}")
    assert len(answer.err.splitlines()) == 1


def test_a_window_must_be_a_duration(orion_beam: Call) -> None:
    answer = orion_beam("topics", "verify", "--bootstrap-servers", "127.0.0.1:1", "--replay-window", "a week")
    assert answer.code == 2
    assert "--replay-window 'a week' is no duration: write it as 90s, 15m, 12h or 7d, or forever" in answer.err


def test_an_error_in_a_catalogue_names_file_and_field(orion_beam: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("topics: {final: {partitions: 0}}\n")
    answer = orion_beam("topics", "plan", "--bootstrap-servers", "127.0.0.1:1", "--catalogue", path)
    assert answer.code == 2
    says = f"{path}:1: topics.final.partitions: expected greater than or equal to 1"
    assert answer.err == f"orion-beam: error: {says}\n"


@pytest.mark.parametrize("command", ["plan", "apply", "verify"])
def test_help_has_an_example_and_the_exit_codes(orion_beam: Call, command: str) -> None:
    answer = orion_beam("topics", command, "--help")
    assert answer.code == 0
    assert f"orion-beam topics {command} --bootstrap-servers" in answer.out
    assert "exit code" in answer.out.lower()
