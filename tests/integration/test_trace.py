"""`orion-beam trace` and `forget` on real Kafka: where one record came out, and where all of a subscriber lie."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from orion_beam.cli.main import app
from orion_beam.config import JobConfig, KafkaSink, KafkaSource
from orion_beam.defaults import CELLS, SUBSCRIBERS
from orion_beam.errors import UserError
from orion_beam.io.write import WriteCdrs, WriteDeadLetters
from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition, offset_ranges, read_ranges
from orion_beam.redrive.journal import read_journal
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.older import readable_schemas
from orion_beam.transforms.decode import DecodeCdrs
from orion_beam.transforms.encode import EncodeCdrs, Wire
from orion_beam.transforms.enrich import EnrichCdrs, operators_of
from orion_beam.transforms.normalize import NormalizeCdrs
from orion_beam.transforms.validate import ValidateCdrs
from tests.integration.harness import Feed, Source, kafka_in, read_topic, settings_of
from tests.outputs import cdr, with_schema
from tests.topics import DEAD_LETTERS, FINAL, raw_topic

pytestmark = pytest.mark.integration

IMSI, MSISDN = "208011234567890", "+33612345678"
GOOD = f"{IMSI};{MSISDN};;FR-1;4G;1;2;2025-06-01T12:00:00Z".encode()
BAD = f"{IMSI};{MSISDN};;FR-1;6G;1;two;2025-06-01T12:00:00Z".encode()
FAILS_TWICE = f"{IMSI};{MSISDN};x;FR-1;6G;1;2;2025-06-01T12:30:00Z".encode()
TOPIC = raw_topic("FR").name
UPGRADED_ID = "184731026435209961077405413298734912045"


@dataclass(frozen=True)
class Traced:
    """A broker, and where its records of interest lie."""

    servers: str
    good: Source
    bad: Source
    redriven: Source
    upgraded: Source
    unprocessed: Source


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    with kafka_in(tmp_path_factory.mktemp("trace") / "kafka") as kafka:
        servers = kafka.bootstrap_servers
        feed = Feed(servers)
        feed.send_generated("FR", 500, fault_rate=0.1)
        good, bad, redriven = (_send(feed, value) for value in (GOOD, BAD, FAILS_TWICE))
        done = _process(servers, {})
        _redrive(servers, "--set", "rat=4G", "--no-validate", "--code", "invalid_imei")
        done = _process(servers, done)
        _redrive(servers, "--set", "imei=", "--code", "invalid_imei")
        _process(servers, done)
        upgraded = _send(feed, GOOD)
        _write_as_the_first_version(servers, upgraded)
        yield Traced(servers, good, bad, redriven, upgraded, _send(feed, GOOD))


def _redrive(servers: str, *options: str) -> None:
    arguments = ["dlq", "redrive", "--bootstrap-servers", servers, *options, "--execute", "--json"]
    answer = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert json.loads(answer.stdout)["fates"]["sent"] >= 1


def _send(feed: Feed, value: bytes) -> Source:
    feed.flush()
    before = set(feed.expected)
    feed.send(TOPIC, IMSI.encode(), value, code=None)
    feed.flush()
    (source,) = set(feed.expected) - before
    return source


def _write_as_the_first_version(servers: str, source: Source) -> None:
    """Write the CDR of a raw record to cdr.final with the oldest schema."""
    oldest = list(readable_schemas(UnifiedCdr).values())[-1]
    row = cdr(*source, imsi=IMSI, cdr_id=UPGRADED_ID)
    producer = Producer({"bootstrap.servers": servers, "partitioner": "murmur2_random", "log_level": 0})
    producer.produce(FINAL.name, with_schema(oldest, row), IMSI.encode())
    assert producer.flush(600) == 0


def _process(servers: str, done: Mapping[SourcePartition, OffsetRange]) -> Mapping[SourcePartition, OffsetRange]:
    """Do what a job does with what has come on the raw topic, on the DirectRunner; return what is done then."""
    sink = KafkaSink(bootstrap_servers=servers)
    source = KafkaSource(bootstrap_servers=servers, group_id="trace", expansion_service="none")
    wire = single_object_header(avro_schema(UnifiedCdr))
    config = JobConfig(countries=("FR",), source=source, sink=sink, wire_prefix=wire)
    held = offset_ranges(servers, [TOPIC])
    new = {part: OffsetRange(done[part].high if part in done else 0, within.high) for part, within in held.items()}
    read = read_ranges(servers, new, committed_only=True)
    batches = [batch.append_column("country", pa.repeat("FR", batch.num_rows)) for batch in read]
    profiles = config.profiles
    stages = [
        DecodeCdrs(profiles),
        ValidateCdrs(profiles),
        NormalizeCdrs(profiles),
        EnrichCdrs(profiles, operators_of(config.known_profiles), CELLS, SUBSCRIBERS),
        EncodeCdrs(UnifiedCdr, Wire(wire)),
    ]
    with beam.Pipeline(runner="DirectRunner") as pipeline:
        accepted = pipeline | beam.Create(batches, reshuffle=False).with_output_types(pa.RecordBatch)
        letters = []
        for stage in stages:
            accepted, refused = accepted | stage
            letters.append(refused)
        accepted | WriteCdrs(config)
        letters | beam.Flatten() | WriteDeadLetters(config)
    return held


def trace(servers: str, *arguments: object) -> tuple[int, str]:
    answer = CliRunner().invoke(app, ["trace", "--bootstrap-servers", servers, *map(str, arguments)])
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.exit_code, answer.stdout


def trace_json(traced: Traced, source: Source, *more: str) -> tuple[int, dict[str, Any]]:
    place = ["--topic", source.topic, "--partition", source.partition, "--offset", source.offset]
    code, text = trace(traced.servers, *place, "--json", *more)
    return code, json.loads(text)


def test_an_accepted_record_is_followed_to_its_cdr_and_back(traced: Traced) -> None:
    code, found = trace_json(traced, traced.good)
    assert code == 0
    assert [(stage["stage"], stage["accepted"]) for stage in found["stages"]] == [
        ("decode", True), ("validate", True), ("normalize", True), ("enrich", True)
    ]  # fmt: skip
    (final,) = found["found"]
    assert (final["outcome"], final["topic"]) == ("final", FINAL.name)
    assert final["cdr_id"] == found["fields"]["cdr_id"]

    code, text = trace(traced.servers, "--cdr-id", final["cdr_id"], "--json")
    assert code == 0
    assert json.loads(text)["record"]["offset"] == traced.good.offset
    assert json.loads(text)["found"] == [final]


def test_a_cdr_of_an_older_version_is_found_and_accounted_for(traced: Traced) -> None:
    code, found = trace_json(traced, traced.upgraded)
    assert code == 0
    assert [(each["outcome"], each["cdr_id"]) for each in found["found"]] == [("final", UPGRADED_ID)]
    code, text = trace(traced.servers, "--cdr-id", UPGRADED_ID, "--json")
    assert code == 0
    assert json.loads(text)["record"]["offset"] == traced.upgraded.offset
    source = traced.upgraded
    offsets = f"FR:{source.partition}={source.offset}-{source.offset + 1}"
    answer = CliRunner().invoke(app, ["audit", "--bootstrap-servers", traced.servers, "--offsets", offsets, "--json"])
    assert answer.exit_code == 0
    assert [part["final"] for part in json.loads(answer.stdout)["partitions"]] == [1]


def test_a_refused_record_is_followed_to_its_dead_letter_with_all_rules(traced: Traced) -> None:
    code, found = trace_json(traced, traced.bad)
    assert code == 0
    verdict = found["stages"][-1]
    assert (verdict["stage"], verdict["accepted"], verdict["codes"]) == (
        "validate", False, ["unknown_rat", "invalid_number"]
    )  # fmt: skip
    (letter,) = found["found"]
    assert (letter["outcome"], letter["topic"], letter["codes"]) == ("dead letter", DEAD_LETTERS.name, verdict["codes"])


def test_redrives_are_followed_to_the_cdr_that_came_of_them_and_back(traced: Traced) -> None:
    code, found = trace_json(traced, traced.redriven)
    assert code == 0
    assert [each["outcome"] for each in found["found"]] == [
        "dead letter", "redriven", "dead letter", "redriven", "final"
    ]  # fmt: skip
    letter, first, again, second, final = found["found"]
    assert (letter["codes"], again["codes"]) == (["invalid_imei", "unknown_rat"], ["invalid_imei"])
    assert [each["attempt"] for each in (letter, first, again, second)] == [1, "2", 2, "3"]
    assert {each["topic"] for each in (first, second)} == {TOPIC}
    assert {each["partition"] for each in (first, second)} == {traced.redriven.partition}
    assert first["id"] != second["id"]
    _, text = trace(traced.servers, "--cdr-id", final["cdr_id"], "--json")
    record = json.loads(text)["record"]
    assert record["offset"] == second["offset"]
    assert record["redriven_from"] == f"{TOPIC}[{first['partition']}]@{first['offset']}"
    _, shown = trace(traced.servers, "--topic", TOPIC, "--partition", first["partition"], "--offset", second["offset"])
    assert f"sent by redrive {second['id']}, from {TOPIC}[" in shown


def test_only_one_partition_of_each_topic_is_looked_at(traced: Traced) -> None:
    _, found = trace_json(traced, traced.good)
    assert sorted(part["topic"] for part in found["searched"]) == [DEAD_LETTERS.name, FINAL.name]


def test_a_record_that_nothing_was_made_of_ends_with_code_1(traced: Traced) -> None:
    code, found = trace_json(traced, traced.unprocessed)
    assert (code, found["found"]) == (1, [])


@pytest.mark.parametrize("name", ["good", "bad"])
def test_numbers_are_masked_unless_revealed_which_is_noted(traced: Traced, name: str) -> None:
    source = getattr(traced, name)
    place = ["--topic", source.topic, "--partition", source.partition, "--offset", source.offset]
    for more in ([], ["--json"]):
        _, text = trace(traced.servers, *place, *more)
        assert IMSI not in text
        assert MSISDN.removeprefix("+") not in text
    _, text = trace(traced.servers, *place, "--reveal", "--json")
    assert json.loads(text)["fields"]["imsi"] == IMSI
    noted = [entry for entry in read_journal(traced.servers, "reveal/").values() if entry["command"] == "trace"]
    assert {"offsets": {str(source.partition): [source.offset, source.offset + 1]}} in [
        each["filter"] for each in noted
    ]


def test_a_place_that_is_not_there_is_named(traced: Traced) -> None:
    with pytest.raises(UserError, match=r"offset 999999 is not among them"):
        trace(traced.servers, "--topic", TOPIC, "--partition", 0, "--offset", 999_999)
    with pytest.raises(UserError, match="cdr.raw.FR has no partition 99: it has 0 to 11"):
        trace(traced.servers, "--topic", TOPIC, "--partition", 99, "--offset", 0)
    with pytest.raises(UserError, match=r"cdr\.final is no raw topic"):
        trace(traced.servers, "--topic", FINAL.name, "--partition", 0, "--offset", 0)


def test_forget_lists_all_records_of_a_subscriber_and_names_no_number(traced: Traced, tmp_path: Path) -> None:
    wanted = {"imsi": ["208019999999999", "", IMSI], "msisdn": [MSISDN]}
    options = []
    for kind, numbers in wanted.items():
        path = tmp_path / f"{kind}.txt"
        path.write_text("\n".join(numbers))
        options += [f"--{kind}-file", str(path)]
    answer = CliRunner().invoke(app, ["forget", "--bootstrap-servers", traced.servers, *options, "--json"])
    assert answer.exit_code == 1
    assert MSISDN.removeprefix("+") not in answer.output
    assert IMSI not in answer.output
    found = json.loads(answer.stdout)
    topics = (TOPIC, FINAL.name, DEAD_LETTERS.name)
    assert set(topics) < set(found["searched"])
    of_number = {(each["file"], each["line"]): each for each in found["subscribers"]}
    assert of_number["imsi", 1]["records"] == 0
    for subscriber, number in ((of_number["imsi", 3], IMSI), (of_number["msisdn", 1], MSISDN.removeprefix("+"))):
        held = [
            record.source
            for topic in topics
            for record in read_topic(traced.servers, topic)
            if number.encode() in (record.key or b"") + (record.value or b"")
        ]
        places = {(each["topic"], each["partition"]): each for each in subscriber["places"]}
        assert {place: each["records"] for place, each in places.items()} == Counter(source[:2] for source in held)
        assert subscriber["records"] == len(held)
        for place, each in places.items():
            offsets = [source.offset for source in held if source[:2] == place]
            assert (each["first_offset"], each["last_offset"]) == (min(offsets), max(offsets))
            kept = datetime.fromisoformat(each["until"]) - datetime.fromisoformat(each["newest"])
            assert kept == timedelta(milliseconds=found["searched"][place[0]]["retention_ms"])
    text = CliRunner().invoke(app, ["forget", "--bootstrap-servers", traced.servers, *options]).output
    assert "2 of 3 subscribers have records on" in text
    assert IMSI not in text


def test_a_retention_that_leads_out_of_the_calendar_has_no_end(traced: Traced, tmp_path: Path) -> None:
    (tmp_path / "imsi.txt").write_text(IMSI)
    given = ["--imsi-file", str(tmp_path / "imsi.txt"), "--json"]
    with settings_of(traced.servers, TOPIC, {"retention.ms": str(2**63 - 1)}):
        answer = CliRunner().invoke(app, ["forget", "--bootstrap-servers", traced.servers, *given])
    (subscriber,) = json.loads(answer.stdout)["subscribers"]
    has_end = {each["topic"]: each["until"] is not None for each in subscriber["places"]}
    assert has_end == {TOPIC: False, FINAL.name: True, DEAD_LETTERS.name: True}


def test_forget_names_the_line_of_what_is_no_number_and_not_the_number(traced: Traced, tmp_path: Path) -> None:
    path = tmp_path / "imsi.txt"
    path.write_text(f"{IMSI}\n{IMSI}9\n")
    answer = CliRunner().invoke(app, ["forget", "--bootstrap-servers", traced.servers, "--imsi-file", str(path)])
    assert str(answer.exception) == f"--imsi-file {path}:2: an IMSI has 14 or 15 digits"
