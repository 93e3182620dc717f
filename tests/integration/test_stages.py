"""A chain that is split: one job publishes the stages, another goes on from a stage's topic."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from pydantic import BaseModel

from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import EnrichedCdr, NormalizedCdr, UnifiedCdr, ValidatedCdr
from orion_beam.schemas.derive import avro_schema, default_of
from orion_beam.schemas.older import readable_schemas
from orion_beam.telemetry.logs import LEVEL_VARIABLE
from tests.integration.harness import (
    START_TIMEOUT_S,
    Feed,
    Record,
    Source,
    avro_reader,
    await_all_out,
    jobs_in,
    kafka_in,
    read_topic,
    records_on,
    source_of_letter,
    source_of_record,
)
from tests.outputs import with_schema
from tests.topics import DEAD_LETTERS, ENRICHED, FINAL, NORMALIZED, VALIDATED

pytestmark = pytest.mark.integration

COUNTRIES = ("FR", "SN")
RECORDS_PER_COUNTRY = 2_000
MODELS = {VALIDATED.name: ValidatedCdr, NORMALIZED.name: NormalizedCdr, ENRICHED.name: EnrichedCdr}
FOREIGN = {
    "no Avro": b"208011234567890;+33612345678",
    "empty": b"",
    "tombstone": None,
    "cut short": single_object_header(avro_schema(NormalizedCdr)) + b"\x1e20801",
    "record of another stage": single_object_header(avro_schema(ValidatedCdr)) + b"\x00" * 100,
}
NEWER = b"\xc3\x01" + bytes.fromhex("efcdab8967452301") + b"\x1e208011234567890"
"""An Avro single object of a schema that no version so far has."""
SAYS = "the record's schema has the fingerprint 01:23:45:67:89:ab:cd:ef, which this version does not know"
KEPT = avro_schema(NormalizedCdr).replace('"name": "charging_id"', '"name": "charging"')
"""A schema that the workspace keeps: what stands in `charging` is dropped, and `charging_id` is null."""
OTHER_SCHEMAS = [*list(readable_schemas(NormalizedCdr).values())[1:], KEPT]
OTHER_RECORDS = 20
"""Records of each of these schemas. They are copies of others, as if from offsets that lie FURTHER for each schema."""
FURTHER = 10_000_000


@dataclass(frozen=True)
class Newer:
    """What became of a record that an newer version left on the topic of the second job.

    Attributes:
        source: where it is.
        log: of the second job, which met it while it ran.
        refusal: what the next start of it said.
        committed: up to where the group has read its partition.
        letters: dead letters that were made of it.
    """

    source: Source
    log: str
    refusal: "subprocess.CompletedProcess[str]"
    committed: int
    letters: list[Record]


@dataclass(frozen=True, repr=False)
class Chain:
    """What two jobs have left behind: the first over all stages, publishing them; the second from cdr.normalized on."""

    expected: dict[Source, str | None]
    stages: dict[str, list[Record]]
    final_of_first: list[Record]
    final_of_second: list[Record]
    final_of_others: list[Record]
    letters_of_first: list[Record]
    letters_of_second: list[Record]
    foreign: dict[str, Source]
    exit_codes: list[int]
    newer: Newer


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    directory = tmp_path_factory.mktemp("stages")
    countries = ",".join(COUNTRIES)
    with kafka_in(directory / "kafka") as kafka, jobs_in(directory / "jobs") as start_job:
        servers = kafka.bootstrap_servers
        feed = Feed(servers)
        for country in COUNTRIES:
            feed.send_generated(country, RECORDS_PER_COUNTRY, fault_rate=0.02)
        feed.flush()
        accepted = list(feed.expected.values()).count(None)
        first = start_job(
            *(servers, "--countries", countries, "--group-id", "first"),
            *("--publish", "validated,normalized,enriched"),
        )
        await_all_out(first, servers, feed)
        first.await_until(
            lambda: records_on(servers, *MODELS) >= len(MODELS) * accepted, START_TIMEOUT_S, "the stages are published"
        )
        first.send(signal.SIGTERM)
        exit_codes = [first.exit_code()]
        stages = {topic: read_topic(servers, topic) for topic in MODELS}
        final, letters = read_topic(servers, FINAL.name), read_topic(servers, DEAD_LETTERS.name)

        strangers = Feed(servers)
        foreign = {}
        for name, value in FOREIGN.items():
            before = set(strangers.expected)
            strangers.send(
                NORMALIZED.name, b"key", value, code="malformed_payload", headers=[("trace", b"1")], partition=3
            )
            strangers.flush()
            (foreign[name],) = set(strangers.expected) - before
        leave_other_versions(strangers, stages[NORMALIZED.name])
        from_normalized = ("--group-id", "second", "--start-from", "normalized")
        second = start_job(
            servers, "--countries", countries, *from_normalized, workspace=workspace_in(directory / "workspace")
        )
        awaited = 2 * len(final) + len(letters) + len(FOREIGN) + len(OTHER_SCHEMAS) * OTHER_RECORDS
        second.await_until(
            lambda: records_on(servers, FINAL.name, DEAD_LETTERS.name) >= awaited,
            START_TIMEOUT_S,
            "every normalized record has come out",
        )
        before = set(strangers.expected)
        strangers.send(NORMALIZED.name, b"key", NEWER, code=None, partition=5)
        strangers.flush()
        (newer,) = set(strangers.expected) - before
        second.await_until(lambda: SAYS in second.log, START_TIMEOUT_S, "the newer record is named")
        second.send(signal.SIGTERM)
        exit_codes.append(second.exit_code())
        refusal = subprocess.run(
            [sys.executable, "-m", "orion_beam.cli.main", "run", "--bootstrap-servers", servers, "--group-id", "second",
             "--start-from", "normalized"],
            capture_output=True, text=True, timeout=START_TIMEOUT_S, env=os.environ | {LEVEL_VARIABLE: "warning"},
        )  # fmt: skip
        final_places = {message.source for message in final}
        of_second = [message for message in read_topic(servers, FINAL.name) if message.source not in final_places]
        is_other = [source_of_record(record).offset >= FURTHER for record in records(of_second)]
        letter_places = {letter.source for letter in letters}
        yield Chain(
            feed.expected,
            stages,
            final,
            [message for message, other in zip(of_second, is_other, strict=True) if not other],
            [message for message, other in zip(of_second, is_other, strict=True) if other],
            letters,
            [letter for letter in read_topic(servers, DEAD_LETTERS.name) if letter.source not in letter_places],
            foreign,
            exit_codes,
            Newer(
                newer,
                second.log,
                refusal,
                committed_offset(servers, "second", newer),
                [letter for letter in read_topic(servers, DEAD_LETTERS.name) if source_of_letter(letter) == newer],
            ),
        )


def workspace_in(directory: Path) -> Path:
    """Make a workspace that keeps a schema of another version."""
    (directory / "schemas").mkdir(parents=True)
    (directory / "orion.yaml").write_text("version: 1\n")
    (directory / "schemas" / "NormalizedCdr-kept.avsc").write_text(KEPT, encoding="utf-8")
    return directory


def leave_other_versions(feed: Feed, normalized: list[Record]) -> None:
    """Send copies of normalized records as other versions have written them."""
    read = avro_reader(NormalizedCdr)
    for number, schema in enumerate(OTHER_SCHEMAS, 1):
        for message in normalized[:OTHER_RECORDS]:
            row = read(message.payload)
            row["source_offset"] += number * FURTHER
            value = with_schema(schema, row | {"charging": "dropped"})
            feed.send(NORMALIZED.name, message.key, value, code=None, partition=message.partition)
    feed.flush()


def committed_offset(servers: str, group_id: str, source: Source) -> int:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group_id})
    try:
        (answer,) = consumer.committed([TopicPartition(source.topic, source.partition)], timeout=600)
        return int(answer.offset)
    finally:
        consumer.close()


def accepted(chain: Chain) -> Counter[Source]:
    return Counter(source for source, code in chain.expected.items() if code is None)


@pytest.mark.parametrize(("topic", "model"), MODELS.items(), ids=MODELS)
def test_a_stage_s_topic_holds_each_accepted_record_once(chain: Chain, topic: str, model: type[BaseModel]) -> None:
    read, header = avro_reader(model), single_object_header(avro_schema(model))
    messages = chain.stages[topic]
    assert {message.payload[:10] for message in messages} == {header}
    records = [read(message.payload) for message in messages]
    assert Counter(map(source_of_record, records)) == accepted(chain)
    assert [message.key for message in messages] == [record["imsi"].encode() for record in records]


def test_publishing_changes_nothing_of_what_comes_out(chain: Chain) -> None:
    assert Counter(map(source_of_record, records(chain.final_of_first))) == accepted(chain)
    rejected = Counter(source for source, code in chain.expected.items() if code is not None)
    assert Counter(map(source_of_letter, chain.letters_of_first)) == rejected


def test_a_job_that_starts_from_a_stage_gives_the_same_values(chain: Chain) -> None:
    first, second = by_source(chain.final_of_first), by_source(chain.final_of_second)
    assert first.keys() == second.keys()
    assert {source: second[source] for source in first if second[source] != first[source]} == {}
    assert {len(messages) for messages in second.values()} == {1}


@pytest.mark.parametrize("number", range(1, len(OTHER_SCHEMAS) + 1))
def test_records_of_other_versions_come_out_with_the_fields_of_this_one(chain: Chain, number: int) -> None:
    had = {field["name"] for field in json.loads(OTHER_SCHEMAS[number - 1])["fields"]}
    lacks = {name: default_of(field) for name, field in NormalizedCdr.model_fields.items() if name not in had}
    assert lacks
    found = [record for record in records(chain.final_of_others) if record["source_offset"] // FURTHER == number]
    assert len(found) == OTHER_RECORDS
    originals = {source_of_record(record): record for record in records(chain.final_of_first)}
    for record in found:
        source = source_of_record(record)
        original = originals[source._replace(offset=source.offset % FURTHER)]
        assert record == original | lacks | {"source_offset": source.offset}


def test_a_job_that_starts_from_a_stage_keeps_the_order_of_a_subscriber(chain: Chain) -> None:
    for messages in (chain.final_of_first, chain.final_of_second):
        offsets = defaultdict(list)
        for message, record in zip(messages, records(messages), strict=True):
            source = source_of_record(record)
            offsets[message.partition, record["imsi"], source.topic, source.partition].append(source.offset)
        assert all(found == sorted(found) for found in offsets.values())


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_message_on_a_stage_s_topic_becomes_a_dead_letter(chain: Chain, name: str) -> None:
    (letter,) = [one for one in chain.letters_of_second if source_of_letter(one) == chain.foreign[name]]
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"key", FOREIGN[name])
    assert headers["orion.error.code"] == b"malformed_payload"
    assert headers["trace"] == b"1"


def test_a_job_that_starts_from_a_stage_rejects_nothing_else(chain: Chain) -> None:
    assert {source_of_letter(letter) for letter in chain.letters_of_second} == set(chain.foreign.values())


def test_a_record_of_a_newer_version_is_held_and_named_not_dead_lettered(chain: Chain) -> None:
    newer = chain.newer
    where = f"{NORMALIZED.name}[{newer.source.partition}] offset {newer.source.offset}: {SAYS}"
    assert where in newer.log
    assert newer.letters == []
    assert newer.committed <= newer.source.offset
    assert newer.refusal.returncode == 2
    (line,) = newer.refusal.stderr.splitlines()
    assert where in line
    assert "kafka-consumer-groups --reset-offsets" in line


def test_sigterm_ends_both_jobs_as_a_shell_expects(chain: Chain) -> None:
    assert chain.exit_codes == [143, 143]


def records(messages: list[Record]) -> list[dict[str, Any]]:
    read = avro_reader(UnifiedCdr)
    return [read(message.payload) for message in messages]


def by_source(messages: list[Record]) -> dict[Source, list[tuple[bytes | None, bytes, int]]]:
    """Return key, value and partition of the messages by the record that they are made of."""
    found = defaultdict(list)
    for message, record in zip(messages, records(messages), strict=True):
        found[source_of_record(record)].append((message.key, message.payload, message.partition))
    return dict(found)
