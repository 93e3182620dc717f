"""The tally: its bookkeeping, and on a real Kafka that duplicates, gaps and contradictions are found."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Producer

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.kafka.ranges import OffsetRange, SourcePartition, offset_ranges
from orion_beam.kafka.tally import (
    _IN_DEAD_LETTERS,
    _IN_FINAL,
    ConservationReport,
    PartitionConservation,
    Tally,
    _Ledger,
    conservation,
)
from orion_beam.kafka.topics import create_topics
from schemas.avro_format import single_object_header
from schemas.cdr import UNIFIED_SCHEMA, UnifiedCdr
from schemas.derive import avro_schema
from tests.letters import headers_of
from transforms.encode import encode_avro

SENT = datetime.now(UTC).replace(microsecond=0)  # what is older than its topic keeps may be gone before it is read
LATENCY = timedelta(milliseconds=250)


def marks(ledger: _Ledger, low: int, high: int) -> list[int]:
    return ledger.marks(OffsetRange(low, high)).tolist()


def test_a_ledger_keeps_each_offset_s_outcomes() -> None:
    ledger = _Ledger()
    ledger.mark(np.array([5, 7]), _IN_FINAL)
    ledger.mark(np.array([6, 7]), _IN_DEAD_LETTERS)
    assert marks(ledger, 4, 9) == [0, 1, 2, 3, 0]
    assert (ledger.accounted, ledger.duplicates) == (3, 0)


def test_a_ledger_counts_duplicates_within_a_batch_and_across_batches() -> None:
    ledger = _Ledger()
    ledger.mark(np.array([1, 1, 2]), _IN_FINAL)
    ledger.mark(np.array([2, 3, 1]), _IN_FINAL)
    assert (ledger.accounted, ledger.duplicates) == (3, 3)


@pytest.mark.parametrize("far", [0, 3_000_000_000])
def test_a_ledger_grows_both_ways_whatever_the_offsets_are(far: int) -> None:
    ledger = _Ledger()
    expected = set()
    for start, end in [(50, 60), (40, 45), (60, 300), (1, 3), (500, 501)]:
        ledger.mark(np.arange(far + start, far + end), _IN_FINAL)
        expected |= set(range(start, end))
    assert marks(ledger, far, far + 600) == [int(place in expected) for place in range(600)]
    assert ledger.accounted == len(expected)
    assert ledger.duplicates == 0


def test_a_ledger_leaves_out_offsets_that_are_not_held() -> None:
    ledger = _Ledger()
    ledger.mark(np.arange(10), _IN_FINAL)
    assert marks(ledger, 8, 12) == [1, 1, 0, 0]
    assert marks(ledger, 20, 22) == [0, 0]
    assert marks(_Ledger(), 3, 5) == [0, 0]


BALANCED = PartitionConservation(
    source=SourcePartition("cdr.raw.FR", 3),
    held=OffsetRange(0, 100),
    final=98,
    dead_lettered=2,
    in_both=0,
    missing=0,
    first_missing=(),
    duplicates=0,
)


def partition(**changes: Any) -> PartitionConservation:
    return replace(BALANCED, **changes)


def test_a_report_holds_when_nothing_is_missing_or_in_both() -> None:
    report = ConservationReport((partition(), partition()))
    assert (report.records, report.final, report.dead_lettered) == (200, 196, 4)
    assert report.holds
    assert report.is_exactly_once


def test_a_report_with_duplicates_is_at_least_once() -> None:
    report = ConservationReport((partition(duplicates=7), partition()))
    assert report.holds
    assert not report.is_exactly_once
    assert report.duplicates == 7


def test_a_report_says_what_is_wrong_and_where() -> None:
    report = ConservationReport((partition(), partition(in_both=1, missing=12, first_missing=tuple(range(10)))))
    assert not report.holds
    assert not report.is_exactly_once
    assert report.problems == [
        "cdr.raw.FR[3]: 12 of 100 missing, offsets 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …",
        "cdr.raw.FR[3]: 1 both written and dead-lettered",
    ]


class Topics:
    """Writes to the topics of a job that is not there."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all"})

    def flush(self) -> None:
        assert self._producer.flush(10) == 0

    def raw(self, topic: str, partition: int, count: int) -> None:
        for _ in range(count):
            self._producer.produce(topic, b"raw", partition=partition)
        self.flush()

    def final(self, topic: str, partition: int, offsets: list[int], country: str = "FR") -> None:
        rows: list[dict[str, Any]] = [
            {
                "imsi": "208010000000001", "msisdn": "+33612345678", "mcc": "208", "mnc": "01", "event_type": "data",
                "event_time": SENT, "event_date": SENT.date(), "event_hour": 13, "timezone": "Europe/Paris",
                "country": country, "roaming": "home", "is_roaming": False, "fraud_score": 0.0, "fraud_reasons": [],
                "model_version": "1", "cdr_id": f"{topic}-{partition}-{offset}", "raw_format": "fr_semicolon",
                "source_topic": topic, "source_partition": partition, "source_offset": offset,
                # A file's records may have no timestamp; here, that of offset 0 has none.
                "source_timestamp": SENT if offset else None, "schema_version": 2,
                "event_type_inferred": True, "warnings": [],
            }
            for offset in offsets
        ]  # fmt: skip
        columns = {field.name: [row.get(field.name) for row in rows] for field in UNIFIED_SCHEMA}
        bodies = encode_avro(pa.RecordBatch.from_pydict(columns, schema=UNIFIED_SCHEMA), UnifiedCdr).to_pylist()
        header = single_object_header(avro_schema(UnifiedCdr))
        written = round((SENT + LATENCY).timestamp() * 1000)
        for body in bodies:
            self._producer.produce("cdr.final", header + body, b"key", timestamp=written)
        self.flush()

    def dead_letters(self, topic: str, partition: int, offsets: list[int], code: str) -> None:
        for offset in offsets:
            letter = {
                "headers": [{"key": "trace", "value": b"\xff"}, {"key": "null", "value": None}],
                "stage": "validate", "code": code, "codes": [code], "fields": ["imsi"], "message": "an IMSI is digits",
                "country": "FR", "source_topic": topic, "source_partition": partition, "source_offset": offset,
                "source_timestamp": SENT, "attempt": 1, "version": "0.1.0", "failed_at": SENT,
            }  # fmt: skip
            self._producer.produce("cdr.dlq", b"raw", b"key", headers=[*headers_of(letter)])
        self.flush()

    def anything(self, topic: str, value: bytes) -> None:
        self._producer.produce(topic, value)
        self.flush()


@pytest.fixture
def topics(tmp_path: Path) -> Iterator[Topics]:
    from runners.local_kafka import LocalKafka

    with LocalKafka(tmp_path / "kafka") as broker:
        create_topics(broker.bootstrap_servers, ["FR", "TN"])
        yield Topics(broker.bootstrap_servers)


@pytest.mark.integration
def test_what_came_out_is_held_against_what_went_in(topics: Topics) -> None:
    servers = topics.bootstrap_servers
    with pytest.raises(PrerequisiteError, match=r"no topic cdr\.raw\.XX"):
        offset_ranges(servers, ["cdr.raw.XX"])
    assert conservation(servers, ["cdr.raw.FR"]).is_exactly_once  # nothing went in

    topics.raw("cdr.raw.FR", 3, 100)
    topics.raw("cdr.raw.TN", 0, 2)
    ranges = offset_ranges(servers, ["cdr.raw.FR", "cdr.raw.TN"])
    assert len(ranges) == 24
    assert {source: held for source, held in ranges.items() if held.high} == {
        ("cdr.raw.FR", 3): (0, 100),
        ("cdr.raw.TN", 0): (0, 2),
    }

    with Tally(servers, keep_latencies=True) as tally:
        topics.final("cdr.raw.FR", 3, list(range(90)))
        topics.dead_letters("cdr.raw.FR", 3, [95, 96], "invalid_imsi")
        topics.dead_letters("cdr.raw.FR", 3, [97], "unknown_rat")
        tally.drain()
        assert tally.counts.final == {"FR": 90}
        assert tally.counts.dead_letters == {("FR", "invalid_imsi"): 2, ("FR", "unknown_rat"): 1}
        assert tally.accounted(["cdr.raw.FR", "cdr.raw.TN"]) == {"cdr.raw.FR": 93, "cdr.raw.TN": 0}
        assert tally.samples["FR"]["msisdn"] == "+33612345678"
        assert tally.latencies_ms().tolist() == [250] * 89
        assert tally.poll(0) == 0

        report = tally.report(ranges)
        assert report.problems == [
            "cdr.raw.FR[3]: 7 of 100 missing, offsets 90, 91, 92, 93, 94, 98, 99",
            "cdr.raw.TN[0]: 2 of 2 missing, offsets 0, 1",
        ]
        assert (report.records, report.final, report.dead_lettered, report.missing) == (102, 90, 3, 9)

        topics.final("cdr.raw.TN", 0, [0, 1], country="TN")
        topics.final("cdr.raw.FR", 3, [*range(88, 95), 98, 99])
        tally.drain()
        report = tally.report(ranges)
        assert report == conservation(servers, ["cdr.raw.FR", "cdr.raw.TN"])
        assert report.holds
        assert not report.is_exactly_once
        assert report.duplicates == 2

    assert conservation(servers, ["cdr.raw.TN"]).is_exactly_once
    topics.final("cdr.raw.FR", 3, [97])
    report = conservation(servers, ["cdr.raw.FR"])
    assert report.in_both == 1
    assert report.problems == ["cdr.raw.FR[3]: 1 both written and dead-lettered"]


@pytest.mark.integration
def test_records_of_others_are_named_and_not_counted(topics: Topics) -> None:
    servers = topics.bootstrap_servers
    topics.anything("cdr.dlq", b"x")
    with pytest.raises(UserError, match=r"cdr\.dlq\[\d+\] at offset 0 is no dead letter"):
        conservation(servers, ["cdr.raw.FR"])
    topics.anything("cdr.final", b'{"imsi": "208010000000001"}')
    with (
        Tally(servers, dead_letter_topic="cdr.enriched") as tally,
        pytest.raises(UserError, match=r"cdr\.final holds values that are no UnifiedCdr") as caught,
    ):
        tally.drain()
    assert "208010000000001" not in str(caught.value)
