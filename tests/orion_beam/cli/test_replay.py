"""What `orion-beam replay` refuses before it reads anything; what it does is in tests/integration."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Answer

CLUSTER = ("--flink_master=flink:8081", "--environment_type=EXTERNAL", "--environment_config=flink:50000")
KAFKA = ["--bootstrap-servers", "127.0.0.1:1"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--last", "6h"], "give --bootstrap-servers"),
        (KAFKA, "which records"),
        ([*KAFKA, "--last", "6h", "--offsets", "FR:0=1-2"], "which records"),
        ([*KAFKA, "--last", "6h", "--to", "2026-01-01T00:00Z"], "which records"),
        ([*KAFKA, "--from", "2026-01-01T00:00"], "say which zone, such as 2026-01-01T00:00Z"),
        ([*KAFKA, "--from", "yesterday"], "is no time"),
        ([*KAFKA, "--from", "2026-01-02T00:00Z", "--to", "2026-01-01T00:00Z", "--output", "out"], "and end before"),
        ([*KAFKA, "--last", "6 hours"], "--last '6 hours' is no duration"),
        ([*KAFKA, "--offsets", "FR:0=7"], "expected COUNTRY:PARTITION=FIRST-END"),
        ([*KAFKA, "--offsets", "FR:0=7-7"], "7 is not before 7"),
        ([*KAFKA, "--offsets", "FR:0=1-2,FR:0=5-6"], "names a partition twice"),
        ([*KAFKA, "--offsets", "FR:0=1-2", "--countries", "TN"], "leave --countries out"),
        ([*KAFKA, "--last", "6h", "--countries", "XX"], "unknown country 'XX'"),
        ([*KAFKA, "--last", "6h", "--to-topic", "cdr.raw.FR"], "a raw topic is no place for results"),
        (
            [*KAFKA, "--last", "6h", "--output", "out", "--", "--runner=FlinkRunner", *CLUSTER],
            "a cluster does not see this machine's files; leave --flink_master out",
        ),
        ([*KAFKA, "--last", "6h", "--output", __file__], "is a file: give a directory"),
        (["--resume", "never-heard-of"], "there is no replay never-heard-of"),
    ],
)
def test_what_cannot_be_replayed_is_named(
    orion_beam: Callable[..., Answer], arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORION_HOME", str(tmp_path))
    answer = orion_beam("replay", *arguments)
    assert answer.code == 2
    assert re.search(says, answer.err)
    assert len(answer.err.splitlines()) == 1
