"""`orion-beam audit` on a real Kafka: it proves that all came out, and names what was removed and what was doubled."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.cimpl import NewTopic
from typer.testing import CliRunner, Result

from orion_beam.cli.main import app
from orion_beam.errors import UserError
from orion_beam.kafka.admin import admin_client
from orion_beam.runners.local.kafka import LocalKafka
from tests.integration.harness import kafka_in
from tests.outputs import Outputs

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    with kafka_in(tmp_path_factory.mktemp("audit") / "kafka") as broker:
        yield broker


def audit(outputs: Outputs, *options: str) -> Result:
    return CliRunner().invoke(app, ["audit", "--bootstrap-servers", outputs.bootstrap_servers, *options])


def summary(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_one_record_removed_and_one_doubled_are_found(shared_kafka: LocalKafka, tmp_path: Path) -> None:
    outputs = Outputs(shared_kafka.bootstrap_servers)
    outputs.raw("cdr.raw.FR", 3, 100)
    outputs.final("cdr.raw.FR", 3, [offset for offset in range(90) if offset != 42])
    outputs.dead_letters("cdr.raw.FR", 3, list(range(90, 100)), "invalid_imsi")
    outputs.final("cdr.raw.FR", 3, [7])

    both = "1 records are missing and 1 records came out again on the same topic."
    assert audit(outputs, "--countries", "FR").stdout.splitlines()[-1] == both
    missing = tmp_path / "missing.csv"
    incomplete = audit(outputs, "--countries", "FR", "--json", "--missing-output", str(missing))
    assert incomplete.exit_code == 1
    found = summary(incomplete)
    assert (found["records"], found["final"], found["dead_letters"]) == (100, 89, 10)
    assert (found["missing"], found["duplicates"], found["in_both"]) == (1, 1, 0)
    (part,) = [part for part in found["partitions"] if part["missing"]]
    assert (part["topic"], part["partition"], part["first_missing"]) == ("cdr.raw.FR", 3, [[42, 43]])
    assert missing.read_text().split() == ["topic,partition,low,high", "cdr.raw.FR,3,42,43"]
    assert "cdr.raw.FR[3]: 1 of 100 missing, offsets 42\n" in audit(outputs, "--countries", "FR").stdout
    assert summary(audit(outputs, "--countries", "FR", "--json", "--workers", "3")) == found

    others = audit(outputs, "--offsets", "FR:3=0-42")
    assert others.exit_code == 0
    assert others.stdout.splitlines()[-1] == "Nothing is missing, but 1 records came out again on the same topic."
    assert audit(outputs, "--offsets", "FR:3=42-43").exit_code == 1

    outputs.final("cdr.raw.FR", 3, [42])
    complete = audit(outputs, "--countries", "FR")
    assert complete.exit_code == 0, complete.output
    last = complete.stdout.splitlines()[-1]
    assert last == "Nothing is missing, but 1 records came out again on the same topic."
    assert audit(outputs, "--countries", "FR", "--fail-on-duplicates").exit_code == 1
    assert audit(outputs, "--offsets", "FR:3=8-42", "--fail-on-duplicates").exit_code == 0
    assert audit(outputs, "--countries", "FR", "--strict").exit_code == 1
    assert audit(outputs, "--offsets", "FR:3=8-42", "--strict").exit_code == 0


def test_offsets_that_hold_no_committed_record_are_not_missing(shared_kafka: LocalKafka) -> None:
    outputs = Outputs(shared_kafka.bootstrap_servers)
    producer = Producer(
        {"bootstrap.servers": shared_kafka.bootstrap_servers, "log_level": 0, "transactional.id": "audit"}
    )
    producer.init_transactions(10)
    for _ in range(3):
        producer.begin_transaction()
        producer.produce("cdr.raw.TN", b"raw", partition=5)
        producer.commit_transaction(10)
    producer.begin_transaction()
    producer.produce("cdr.raw.TN", b"raw", partition=5)
    producer.flush(600)
    producer.abort_transaction(10)
    outputs.final("cdr.raw.TN", 5, [0, 2, 4], country="TN")

    found = summary(audit(outputs, "--countries", "TN", "--json"))
    assert found["complete"]
    assert (found["records"], found["final"]) == (3, 3)
    assert [part["empty_offsets"] for part in found["partitions"] if part["high"]] == [
        5
    ]  # markers, and what was aborted


def test_a_time_is_the_raw_records_own(shared_kafka: LocalKafka) -> None:
    outputs = Outputs(shared_kafka.bootstrap_servers)
    noon = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=2)
    producer = Producer({"bootstrap.servers": shared_kafka.bootstrap_servers, "log_level": 0})
    for hour in range(4):
        at = noon + timedelta(hours=hour)
        producer.produce("cdr.raw.MA", b"raw", partition=1, timestamp=round(at.timestamp() * 1000))
    assert producer.flush(600) == 0
    outputs.final("cdr.raw.MA", 1, [1, 2], country="MA")

    def missing(*options: str) -> int:
        return int(summary(audit(outputs, "--countries", "MA", "--json", *options))["missing"])

    one, three = ((noon + timedelta(hours=hour)).isoformat() for hour in (1, 3))
    assert missing() == 2
    assert missing("--from", one, "--to", three) == 0
    assert missing("--from", one) == 1
    assert missing("--to", three) == 1


def test_other_topics_and_what_retention_has_taken_from_them(shared_kafka: LocalKafka) -> None:
    servers = shared_kafka.bootstrap_servers
    admin = admin_client(servers)
    for created in admin.create_topics([NewTopic("cdr.final.replay", 1)]).values():
        created.result(600)
    outputs = Outputs(servers, "cdr.final.replay")
    outputs.raw("cdr.raw.SN", 0, 10)
    outputs.final("cdr.raw.SN", 0, list(range(10)), country="SN")
    options = ("--countries", "SN", "--final-topic", "cdr.final.replay")
    assert audit(outputs, "--countries", "SN").exit_code == 1
    assert audit(outputs, *options).exit_code == 0

    for deleted in admin.delete_records([TopicPartition("cdr.final.replay", 0, 4)]).values():
        deleted.result(600)
    outputs.anything("cdr.final.replay", b"of somebody else")
    cut = audit(outputs, *options)
    assert cut.exit_code == 1
    assert "cdr.raw.SN[0]: 4 of 10 missing, offsets 0-3" in cut.stdout
    assert (
        "cdr.final.replay: its first 4 records are deleted, so the raw records that they came from count as missing"
        in cut.stdout
    )
    assert (
        "cdr.final.replay: ORION Beam did not write 1 records; the first is cdr.final.replay[0] at offset 10"
        in cut.stdout
    )


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_schema_that_is_not_known_is_one_line_whoever_reads_it(shared_kafka: LocalKafka, processes: str) -> None:
    servers, topic = shared_kafka.bootstrap_servers, f"cdr.final.foreign-{processes}"
    admin = admin_client(servers)
    for created in admin.create_topics([NewTopic(topic, 4)]).values():
        created.result(600)
    Outputs(servers).anything(topic, b"\xc3\x01" + bytes(range(8)) + b"of another version")
    result = audit(Outputs(servers), "--final-topic", topic, "--processes", processes)
    assert isinstance(result.exception, UserError)
    assert "--schema" in str(result.exception)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--from", "2026-01-02T00:00Z", "--to", "2026-01-01T00:00Z"], "is not before --to"),
        (["--from", "2026-01-02T00:00"], "has no offset: say which zone"),
        (["--to", "yesterday"], "--to yesterday is no time"),
        (["--offsets", "FR:0=5-5"], "5 is not before 5"),
        (["--offsets", "XX:0=0-5"], "expected COUNTRY:PARTITION=FIRST-END"),
        (["--offsets", "FR:0=0-5,FR:0=7-9"], "names cdr.raw.FR[0] twice"),
        (["--offsets", "FR:99=0-5"], "there is no partition cdr.raw.FR[99]"),
        (["--offsets", "FR:0=0-99999"], "cdr.raw.FR[0] holds offsets 0-"),
        (["--offsets", "FR:0=0-5", "--countries", "FR"], "--offsets says which records"),
        (["--final-topic", "nowhere"], "has no topic nowhere"),
        (["--schema", "nowhere.avsc"], "--schema nowhere.avsc: No such file"),
    ],
)
def test_mistakes_are_named(shared_kafka: LocalKafka, options: list[str], says: str) -> None:
    result = audit(Outputs(shared_kafka.bootstrap_servers), *options)
    assert isinstance(result.exception, UserError)
    assert says in str(result.exception)
