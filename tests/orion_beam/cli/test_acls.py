"""`orion-beam acls`: what is refused before a broker is asked. tests/integration has it on a cluster."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orion_beam.workspace import JOB_FILE, WORKSPACE_VARIABLE
from tests.command import Answer

Call = Callable[..., Answer]


@pytest.mark.parametrize("command", ["plan", "apply", "verify"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "who has which role? give --principal ROLE=USER, or acls in orion.yaml"),
        (["--principal", "admin=User:a"], "--principal admin=User:a: expected ROLE=USER with a role of stream, jobs"),
        (["--principal", "stream=a"], "--principal stream=a: a user is TYPE:NAME as Kafka knows it"),
        (["--principal", "stream=User:*"], "--principal stream=User:*: * is everybody: name the user"),
        (["--principal", "stream=User:a", "--publish", "raw"], "--publish raw: expected one of validated"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(orion_beam: Call, command: str, options: list[str], says: str) -> None:
    answer = orion_beam("acls", command, "--bootstrap-servers", "127.0.0.1:1", *options)
    assert answer.code == 2
    assert answer.err.startswith(f"orion-beam: error: {says}")
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("acls", "says"),
    [
        ("{stream: 'User:a', desk: ['User:CN=b,O=Telco', 'User:c']}", "Kafka at 127.0.0.1:1 does not answer"),
        ("{stream: 'User:*'}", "orion.yaml:2: acls.stream"),
        ("{admin: 'User:a'}", "orion.yaml:2: acls.admin"),
    ],
)
def test_the_job_file_says_who_has_which_role(
    orion_beam: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acls: str, says: str
) -> None:
    monkeypatch.setattr("orion_beam.access.acls.DEADLINE_S", 1.0)
    (tmp_path / JOB_FILE).write_text(f"version: 1\nacls: {acls}\nbrokers: 127.0.0.1:1\n")
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(tmp_path))
    answer = orion_beam("acls", "plan")
    assert answer.code == 2
    assert says in answer.err
