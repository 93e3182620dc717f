"""One undisturbed stream on real Kafka and embedded Flink: 200,000 CDRs of four countries, and what came of each."""

import hashlib
import json
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from prometheus_client.samples import Sample

from orion_beam import __version__
from orion_beam.kafka.admin import admin_client
from orion_beam.kafka.partitioner import partition_of
from orion_beam.proof.audit import conservation
from orion_beam.proof.conservation import ConservationReport
from orion_beam.runners.local.broker import free_ports
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from tests.command import Command
from tests.integration.harness import (
    Feed,
    Record,
    Source,
    avro_reader,
    await_all_out,
    committed_offsets,
    jobs_in,
    kafka_in,
    read_topic,
    scrape,
    settings_of,
    source_of_letter,
    source_of_record,
)
from tests.letters import letter_of
from tests.topics import DEAD_LETTERS, FINAL, FINAL_PARTITIONS, raw_topic

pytestmark = pytest.mark.integration

COUNTRIES = ("FR", "TN", "MA", "SN")
RECORDS_PER_COUNTRY = 50_000
FAULT_RATE = 0.02
GROUP = "stream"
GOOD_FR = b"208011234567890;+33612345678;;FR-1;4G;1;2;2025-06-01T12:00:00Z"
SPECIAL_PARTITION = 7


@dataclass(frozen=True)
class Special:
    """A message that no generator sends."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    code: str | None


SPECIALS = {
    "tombstone": Special(b"208011234567890", None, (), "empty_payload"),
    "null key and value": Special(None, None, (), "empty_payload"),
    "null key": Special(None, b"no CDR\n;\x00", (), "malformed_payload"),
    "empty key": Special(b"", b"no CDR", (), "malformed_payload"),
    "bytes that are no text": Special(b"\xff\x00", b"\xfe\xff\x00", (), "invalid_encoding"),
    "headers": Special(
        b"k",
        b"no CDR",
        (("trace", b"1"), ("trace", b"2"), ("null", None), ("empty", b""), ("bytes", b"\xff\x00"), ("", b"no name")),
        "malformed_payload",
    ),
    "redriven": Special(b"k", b"no CDR", (("orion.attempt", b"2"), ("trace", b"1")), "malformed_payload"),
    "accepted without key": Special(None, GOOD_FR, (("trace", b"1"),), None),
}


PILLS = {
    "nearly as large as its topic takes, and nothing makes it shorter": random.Random(1).randbytes(1_047_000),
    "larger than a producer's messages, but for its compression": b"x" * 3_000_000,
}
"""Records whose dead letters their topic does not take."""
PILL_KEYS = dict(
    zip(PILLS, {partition_of(key, FINAL_PARTITIONS): key for key in (b"a", b"b", b"c", b"d")}.values(), strict=False)
)
"""So that their letters are in different partitions."""


@dataclass(frozen=True, repr=False)
class Stream:
    """What a job that ran undisturbed has left behind."""

    servers: str
    expected: dict[Source, str | None]
    specials: dict[str, Source]
    pills: dict[str, Source]
    raw: dict[Source, Record]
    final: list[tuple[Record, dict[str, Any]]]
    letters: list[Record]
    report: ConservationReport
    committed: dict[str, dict[int, int]]
    exit_code: int
    metrics: list[Sample]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    directory = tmp_path_factory.mktemp("stream")
    topics = [raw_topic(country).name for country in COUNTRIES]
    with kafka_in(directory / "kafka") as kafka, jobs_in(directory / "jobs") as start_job:
        servers = kafka.bootstrap_servers
        (metrics_port,) = free_ports(1)
        job = start_job(servers, "--group-id", GROUP, "--metrics-port", str(metrics_port))
        feed = Feed(servers)
        specials = {name: _send_special(feed, special) for name, special in SPECIALS.items()}
        pills = {}
        with settings_of(servers, DEAD_LETTERS.name, {"max.message.bytes": "1000000"}):
            for seed, country in enumerate(COUNTRIES):
                feed.send_generated(country, RECORDS_PER_COUNTRY, seed=seed, fault_rate=FAULT_RATE)
                if country == "TN":
                    pills = {
                        name: _send_special(
                            feed, Special(PILL_KEYS[name], value, (("trace", b"1"),), "oversized_payload")
                        )
                        for name, value in PILLS.items()
                    }
            feed.flush()
            await_all_out(job, servers, feed)
        metrics = scrape(f"http://127.0.0.1:{metrics_port}/metrics")
        job.send(signal.SIGINT)
        exit_code = job.exit_code()
        read = avro_reader(UnifiedCdr)
        yield Stream(
            servers,
            feed.expected,
            specials,
            pills,
            {message.source: message for topic in topics for message in read_topic(servers, topic)},
            [(message, read(message.payload)) for message in read_topic(servers, FINAL.name)],
            read_topic(servers, DEAD_LETTERS.name),
            conservation(servers, topics),
            {topic: committed_offsets(servers, GROUP, topic) for topic in topics},
            exit_code,
            metrics,
        )


def _send_special(feed: Feed, special: Special) -> Source:
    feed.flush()
    before = set(feed.expected)
    feed.send(
        raw_topic("FR").name,
        special.key,
        special.value,
        code=special.code,
        headers=special.headers,
        partition=SPECIAL_PARTITION,
    )
    feed.flush()
    (source,) = set(feed.expected) - before
    return source


def test_every_record_comes_out_exactly_once(stream: Stream) -> None:
    assert len(stream.expected) == len(COUNTRIES) * RECORDS_PER_COUNTRY + len(SPECIALS) + len(PILLS)
    out = Counter(source_of_record(record) for _, record in stream.final)
    out.update(source_of_letter(letter) for letter in stream.letters)
    assert set(out) == set(stream.expected)
    assert set(out.values()) == {1}


def test_the_conservation_report_says_so(stream: Stream) -> None:
    assert stream.report.problems == []
    assert stream.report.is_exactly_once
    assert stream.report.final == len(stream.final)
    assert stream.report.dead_lettered == len(stream.letters)


def test_each_record_is_accepted_or_rejected_with_the_code_of_its_fault(stream: Stream) -> None:
    given: dict[Source, str | None] = {source_of_record(record): None for _, record in stream.final}
    given |= {source_of_letter(letter): letter.header("orion.error.code") for letter in stream.letters}
    wrong = {
        source: (given.get(source), code, stream.raw[source].value)
        for source, code in stream.expected.items()
        if given.get(source) != code
    }
    assert wrong == {}
    # The generator makes every fault there is, so that this says something of each.
    assert len({code for code in stream.expected.values() if code}) >= 12


def test_records_of_a_subscriber_keep_their_order(stream: Stream) -> None:
    last: dict[tuple[int, str, str, int], int] = {}
    out_of_order = []
    for message, record in stream.final:
        source = source_of_record(record)
        where = (message.partition, record["imsi"], source.topic, source.partition)
        if last.get(where, -1) >= source.offset:
            out_of_order.append(source)
        last[where] = source.offset
    assert out_of_order == []
    assert len(stream.final) > 2 * len(last), "too few records of one subscriber to say anything of their order"


def test_a_subscriber_has_one_partition(stream: Stream) -> None:
    partitions = defaultdict(set)
    for message, record in stream.final:
        partitions[record["imsi"]].add(message.partition)
    assert {len(found) for found in partitions.values()} == {1}
    assert {message.partition for message, _ in stream.final} == set(range(FINAL_PARTITIONS))


def test_values_are_avro_with_the_single_object_header(stream: Stream) -> None:
    header = single_object_header(avro_schema(UnifiedCdr))
    assert len(header) == 10
    assert {message.payload[:10] for message, _ in stream.final} == {header}
    # The fixture has read each with fastavro, to its last byte.
    fields = [field["name"] for field in json.loads(avro_schema(UnifiedCdr))["fields"]]
    assert {tuple(record) for _, record in stream.final} == {tuple(fields)}


def test_values_tell_of_the_record_they_are_made_of(stream: Stream) -> None:
    for message, record in stream.final:
        source = source_of_record(record)
        raw = stream.raw[source]
        assert message.key == record["imsi"].encode()
        assert record["country"] == source.topic.removeprefix("cdr.raw.")
        assert round(record["source_timestamp"].timestamp() * 1000) == raw.timestamp_ms
        assert record["imsi"].encode() in raw.payload
        assert record["msisdn"].removeprefix("+").encode()[-9:] in raw.payload


def test_hardly_two_records_have_the_same_cdr_id(stream: Stream) -> None:
    ids = Counter(record["cdr_id"] for _, record in stream.final)
    assert len(ids) > 0.99 * len(stream.final)


def test_a_key_is_where_the_java_client_puts_it(stream: Stream) -> None:
    misplaced = {
        (message.key, message.partition)
        for message, _ in stream.final
        if message.partition != partition_of(message.key or b"", FINAL_PARTITIONS)
    }
    assert misplaced == set()


def test_dead_letters_hold_the_original_key_and_value(stream: Stream) -> None:
    for letter in stream.letters:
        raw = stream.raw[source_of_letter(letter)]
        is_pill = raw.source in stream.pills.values()
        assert (letter.key, letter.value) == (raw.key, None if is_pill else raw.value)


def test_dead_letters_say_why_and_from_where(stream: Stream) -> None:
    for letter in stream.letters:
        raw = stream.raw[source_of_letter(letter)]
        read = letter_of(letter.key, letter.value, letter.headers)
        assert read is not None
        assert read["country"] == raw.source.topic.removeprefix("cdr.raw.")
        assert read["codes"][0] == read["code"]
        assert len(set(read["codes"])) == len(read["codes"])
        assert read["fields"]
        assert read["stage"] in {"decode", "validate"}
        assert 0 < len(read["message"].encode()) <= 1024
        assert read["version"] == __version__
        assert read["source_timestamp"] is not None
        assert round(read["source_timestamp"].timestamp() * 1000) == raw.timestamp_ms
        assert abs(round(read["failed_at"].timestamp() * 1000) - letter.timestamp_ms) < 60_000


def test_dead_letters_have_every_header_once_and_as_text(stream: Stream) -> None:
    names = {
        *(f"orion.error.{name}" for name in ("stage", "code", "codes", "fields", "message")),
        *(f"orion.source.{name}" for name in ("topic", "partition", "offset", "timestamp")),
        *("orion.country", "orion.attempt", "orion.version", "orion.failed_at"),
    }
    for letter in stream.letters:
        if source_of_letter(letter) in stream.pills.values():
            continue
        own = [(name, value) for name, value in letter.headers if name.startswith("orion.")]
        assert Counter(name for name, _ in own) == Counter(names)
        assert all(value for _, value in own)


def test_messages_of_dead_letters_name_no_subscriber(stream: Stream) -> None:
    for letter in stream.letters:
        key = letter.key
        if key and len(key) == 15:
            assert key.decode() not in letter.header("orion.error.message")


@pytest.mark.parametrize("name", [name for name, special in SPECIALS.items() if special.code])
def test_unusual_messages_are_dead_lettered_unchanged(stream: Stream, name: str) -> None:
    special, source = SPECIALS[name], stream.specials[name]
    (letter,) = [letter for letter in stream.letters if source_of_letter(letter) == source]
    assert (letter.key, letter.value) == (special.key, special.value)
    kept = [header for header in letter.headers if not header[0].startswith("orion.")]
    assert kept == [header for header in special.headers if not header[0].startswith("orion.")]
    assert letter.header("orion.attempt") == ("2" if name == "redriven" else "1")


@pytest.mark.parametrize("name", PILLS)
def test_a_record_that_is_too_large_for_a_dead_letter_goes_by_reference(stream: Stream, name: str) -> None:
    (message,) = [letter for letter in stream.letters if source_of_letter(letter) == stream.pills[name]]
    letter = letter_of(message.key, message.value, message.headers)
    assert letter is not None
    assert (letter["key"], letter["value"], letter["headers"]) == (PILL_KEYS[name], None, [])
    assert letter["reference"] == "open"
    assert letter["payload_bytes"] == len(PILLS[name])
    assert letter["payload_sha256"] == hashlib.sha256(PILLS[name]).hexdigest()


def test_the_desk_follows_letters_by_reference_for_as_long_as_their_records_are_there(
    stream: Stream, orion_beam: Command
) -> None:
    places = {
        name: next(letter.source for letter in stream.letters if source_of_letter(letter) == source)
        for name, source in stream.pills.items()
    }
    at = ("--bootstrap-servers", stream.servers)
    selected = ("--offsets", ",".join(f"{place.partition}={place.offset}" for place in places.values()))

    def shown(name: str) -> dict[str, Any]:
        place = f"{places[name].partition}@{places[name].offset}"
        found: dict[str, Any] = json.loads(orion_beam("dlq", "show", place, *at, "--json").out)
        return found

    def fates(*arguments: str) -> dict[str, int]:
        found: dict[str, int] = json.loads(orion_beam("dlq", "redrive", *at, *selected, *arguments, "--json").out)[
            "fates"
        ]
        return found

    for name, value in PILLS.items():
        found = shown(name)
        assert (found["reference"], found["payload_bytes"]) == ("followed", len(value))
        assert found["headers"] == [["trace", "1"]]
        (field,) = found["record"]
        assert field["text"].endswith(f"… and {len(value) - 2048:,} bytes more")
    assert fates() == {"still_fails": 2}
    assert fates("--no-validate", "--execute") == {"sent": 2}
    records = read_topic(stream.servers, raw_topic("FR").name)
    pills = [record for record in records if len(record.value or b"") > 1_000_000]
    sent = [record for record in pills if ("orion.attempt", b"2") in record.headers]
    assert Counter(record.value for record in sent) == Counter(PILLS.values())
    assert all(record.headers[0] == ("trace", b"1") for record in sent)

    end = max(source.offset for source in stream.pills.values()) + 1
    admin = admin_client(stream.servers)  # its answers end with it
    (deleted,) = admin.delete_records([TopicPartition(raw_topic("FR").name, SPECIAL_PARTITION, end)]).values()
    deleted.result(600)
    assert shown(next(iter(PILLS)))["reference"] == "gone"
    assert fates("--again") == {"gone": 2}
    retested = json.loads(orion_beam("dlq", "retest", *at, *selected, "--json").out)
    assert (retested["letters"], retested["gone"]) == (2, 2)


def test_a_record_without_a_key_gets_its_imsi_as_key(stream: Stream) -> None:
    source = stream.specials["accepted without key"]
    (message,) = [message for message, record in stream.final if source_of_record(record) == source]
    assert message.key == b"208011234567890"


def test_committed_offsets_reach_no_further_than_what_was_sent(stream: Stream) -> None:
    ends: Counter[tuple[str, int]] = Counter()
    for source in stream.expected:
        ends[source.topic, source.partition] = max(ends[source.topic, source.partition], source.offset + 1)
    for topic, committed in stream.committed.items():
        for partition, offset in committed.items():
            assert offset <= ends[topic, partition]


def test_the_workers_metrics_are_those_of_all_of_them(stream: Stream) -> None:
    def count(name: str, **labels: str) -> Counter[str]:
        """Return the sums by country."""
        sums: Counter[str] = Counter()
        for sample in stream.metrics:
            if sample.name == name and sample.labels.items() >= labels.items():
                sums[sample.labels["country"]] += round(sample.value)
        return sums

    sent = Counter(source.topic.removeprefix("cdr.raw.") for source in stream.expected)
    assert count("orion_records_in_total", stage="decode") == sent
    assert count("orion_records_accepted_total", stage="encode") == Counter(cdr["country"] for _, cdr in stream.final)
    assert count("orion_batch_rows_sum") == sent
    warned = Counter(rule for _, cdr in stream.final for rule in cdr["warnings"])
    rejected = Counter(letter.header("orion.error.code") for letter in stream.letters)
    for name, label, expected in (
        ("orion_warnings_total", "rule", warned),
        ("orion_records_rejected_total", "code", rejected),
    ):
        assert {each: count(name, **{label: each}).total() for each in expected} == dict(expected)


def test_ctrl_c_ends_the_job_as_a_shell_expects(stream: Stream) -> None:
    assert stream.exit_code == 130
