"""Two environments on one broker, each with its prefix: nothing that one does is seen, or changed, in the other."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orion_beam.job_file.environment import PREFIX_VARIABLE, transactional_id
from orion_beam.kafka.admin import topic_names
from orion_beam.kafka.offset_ranges import offset_ranges
from orion_beam.redrive.transactions import Outgoing, TransactionalWriter
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.workspace import JOB_FILE
from tests.command import Command
from tests.integration.harness import read_topic

pytestmark = [pytest.mark.integration, pytest.mark.deep]

STAGING, PROD = "staging.", "prod."
RECORDS = 300

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalKafka(tmp_path_factory.mktemp("environments") / "kafka") as kafka:
        yield kafka.bootstrap_servers


@pytest.fixture
def run(orion_beam: Command, servers: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Function that runs a command in an environment, and returns the JSON that it prints."""
    monkeypatch.setenv(PREFIX_VARIABLE, "")  # restored after the test: the option sets it
    monkeypatch.setenv("ORION_HOME", str(tmp_path))

    def call(prefix: str, *command: object, codes: tuple[int, ...] = (0,)) -> Any:
        answer = orion_beam("--topic-prefix", prefix, *command, "--bootstrap-servers", servers, "--json")
        assert answer.code in codes, answer
        return json.loads(answer.out or "null")

    return call


def held(servers: str, prefix: str) -> dict[object, object]:
    """Return the offsets of all topics of an environment."""
    return dict(offset_ranges(servers, [name for name in topic_names(servers) if name.startswith(prefix)]))


def test_two_environments_do_not_touch_each_other(
    servers: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    topics = "--profile", "development", "--countries", "FR"
    for prefix in (STAGING, PROD):
        run(prefix, "topics", "apply", "--yes", *topics)
        generated = "--count", RECORDS, "--fault-rate", "0.1", "--seed", "7", "--start", start
        run(prefix, "generate", "--countries", "FR", *generated)
    assert {name.split(".")[0] for name in topic_names(servers) if not name.startswith("__")} == {"staging", "prod"}
    raw = {prefix: read_topic(servers, f"{prefix}cdr.raw.FR") for prefix in (STAGING, PROD)}
    assert len(raw[STAGING]) == RECORDS
    assert sorted(each.payload for each in raw[STAGING]) == sorted(each.payload for each in raw[PROD])

    # A job in staging, and everything that people do with what it leaves.
    before = held(servers, PROD)
    staging = run(STAGING, "replay", "--countries", "FR", "--last", "1d", "--workers", "1")
    assert (staging["records"], staging["targets"]["final"]) == (RECORDS, "staging.cdr.final")
    assert run(STAGING, "audit", "--countries", "FR")["complete"]
    letters = run(STAGING, "dlq", "stats")
    assert letters["letters"] == letters["open"] == staging["dead_letters"] > 0
    sent = run(STAGING, "dlq", "redrive", "--no-validate", "--execute")
    assert sent["fates"] == {"sent": letters["letters"]}
    assert run(STAGING, "dlq", "stats")["redriven"] == letters["letters"]
    verified = run(STAGING, "topics", "verify", *topics)
    assert (verified["ok"], verified["plan"]["other_topics"]) == (True, [])
    watched = run(STAGING, "top", "--countries", "FR", "--interval", "0.2")
    assert watched["group"] == "staging.orion-beam"
    # What else it says of this machine does not matter here.
    checks = {each["name"]: each for each in run(STAGING, "doctor", "--countries", "FR", codes=(0, 1))["checks"]}
    assert checks["topics"]["status"] == "ok"
    assert "group staging.orion-beam has read nothing yet" in checks["unread records"]["found"]
    assert run(STAGING, "capture", "--countries", "FR", "--count", "50", "--output", tmp_path / "cases")["countries"]
    # A workspace of another environment, which has no topics, is compared over the records of this one.
    (tmp_path / JOB_FILE).write_text("version: 1\ntopics: {prefix: nowhere.}\n")
    over = "--offsets", "FR:0=0-3", "--new-workspace", tmp_path, "--workers", "1"
    compared = run(STAGING, "replay", "diff", *over)
    assert (compared["records"], compared["differences"]) == (3, [])
    assert held(servers, PROD) == before

    # Production has all of its records still, and comes to the same result.
    before = held(servers, STAGING)
    prod = run(PROD, "replay", "--countries", "FR", "--last", "1d", "--workers", "1")
    assert (prod["final"], prod["dead_letters"]) == (staging["final"], staging["dead_letters"])
    assert run(PROD, "audit", "--countries", "FR", "--strict")["complete"]
    assert run(PROD, "dlq", "stats")["open"] == letters["letters"]
    # A redrive of staging that is under way does not end, and is not ended by, one of production.
    monkeypatch.setenv(PREFIX_VARIABLE, STAGING)
    with TransactionalWriter(servers, transactional_id()) as writer:
        assert run(PROD, "dlq", "redrive", "--no-validate", "--execute")["fates"] == sent["fates"]
        assert held(servers, STAGING) == before
        writer.commit([Outgoing("staging.cdr.final", 0, None, b"none of ours", [], None)], {})
    assert held(servers, STAGING) != before

    # Neither takes the other's topics for its own.
    place = "--partition", "0", "--offset", "0"
    for own, other in ((STAGING, PROD), (PROD, STAGING)):
        found = run(own, "trace", "--topic", f"{own}cdr.raw.FR", *place)
        assert found["record"]["topic"] == f"{own}cdr.raw.FR"
        run(own, "trace", "--topic", f"{other}cdr.raw.FR", *place, codes=(2,))
