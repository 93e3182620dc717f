"""Writing columns to a real Kafka: as messages one by one would be written, in order, and none is lost unsaid."""

import itertools
import logging
import random
import weakref
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import psutil
import pyarrow as pa
import pytest
from confluent_kafka import Producer

from orion_beam.config import KafkaSink
from orion_beam.io.kafka_sink import ProduceDeadLetters, ProduceMessages, _WriteDeadLettersFn, _WriteMessagesFn
from orion_beam.kafka.clients import producer_config
from orion_beam.kafka.column_producer import ColumnProducer
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA
from orion_beam.transforms.encode import ENCODED_SCHEMA
from tests.integration.harness import await_until, kafka_in, read_topic, settings_of
from tests.letters import LETTER, letter_of, messages_from
from tests.topics import DEAD_LETTERS, ENRICHED, FINAL

pytestmark = pytest.mark.integration

MESSAGES = 5_000
LARGE = 3 << 20


def write(kafka: LocalKafka, batch: pa.RecordBatch, **settings: str) -> None:
    producer_config = {name.replace("_", "."): value for name, value in settings.items()}
    sink = KafkaSink(bootstrap_servers=kafka.bootstrap_servers, producer_config=producer_config)
    with beam.Pipeline() as pipeline:
        batches = pipeline | beam.Create([batch], reshuffle=False).with_output_types(pa.RecordBatch)
        batches | ProduceMessages(sink, FINAL.name)


def write_letters(kafka: LocalKafka, *batches: pa.RecordBatch) -> None:
    with beam.Pipeline() as pipeline:
        letters = pipeline | beam.Create(batches, reshuffle=False).with_output_types(pa.RecordBatch)
        letters | ProduceDeadLetters(KafkaSink(bootstrap_servers=kafka.bootstrap_servers))


def letters_of(*changes: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([LETTER | change for change in changes], schema=DEAD_LETTER_SCHEMA)


def held(kafka: LocalKafka, topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
    """Return partition, key and value of each record, those of a partition in order."""
    records = sorted(read_topic(kafka.bootstrap_servers, topic), key=lambda record: record.source)
    return [(record.partition, record.key, record.value) for record in records]


def batch_of(keys: list[bytes | None], values: list[bytes | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array(keys, pa.binary()), pa.array(values, pa.binary()), pa.repeat("FR", len(keys))], schema=ENCODED_SCHEMA
    )


def test_a_queue_that_is_full_loses_nothing_and_keeps_the_order(kafka: LocalKafka) -> None:
    values: list[bytes | None] = [str(number).encode() for number in range(MESSAGES)]
    write(kafka, batch_of([b"key"] * MESSAGES, values), queue_buffering_max_messages="100")
    assert [record.value for record in read_topic(kafka.bootstrap_servers, FINAL.name)] == values


def test_columns_are_written_as_confluent_kafka_writes_messages(kafka: LocalKafka) -> None:
    keys: list[bytes | None] = [b"", b"a", bytes(range(256)), *(str(number).encode() for number in range(200))]
    values: list[bytes | None] = [b"first", b"", None, *(b"v" * number for number in range(199)), b"x" * (1 << 20)]
    # Neither begins where its buffer does.
    write(kafka, batch_of([b"not this", *keys], [b"nor this", *values]).slice(1))
    columns = held(kafka, FINAL.name)
    producer = Producer(producer_config(kafka.bootstrap_servers, {}))
    for key, value in zip(keys, values, strict=True):
        producer.produce(ENRICHED.name, value, key)
    assert producer.flush(600) == 0
    assert columns == held(kafka, ENRICHED.name)
    assert sorted(keys) == sorted(key for _, key, _ in columns)


def test_dead_letters_are_written_as_confluent_kafka_writes_messages_with_headers(kafka: LocalKafka) -> None:
    names = ["", "é", "twice", "twice", "orion.attempt", "long" * 1_000]
    odd = [{"key": name, "value": value} for name in names for value in (None, b"", b"\x00\xff")]
    first = letters_of({"key": None, "value": b""}, {"key": b"k", "headers": odd}, {"headers": [], "value": None})
    second = letters_of(*[{"key": b"%d" % number, "source_offset": number} for number in range(200)])
    large = letters_of({"key": b"large", "value": b"x" * (1 << 20), "run_id": "a-run"})
    # Neither begins where its buffers do.
    batches = [first.slice(1), second.slice(7), large]
    write_letters(kafka, *batches)
    producer = Producer(producer_config(kafka.bootstrap_servers, {}))
    for message in itertools.chain.from_iterable(map(messages_from, batches)):
        producer.produce(ENRICHED.name, message.value, message.key, headers=message.headers)
    assert producer.flush(600) == 0
    written, expected = (
        sorted(read_topic(kafka.bootstrap_servers, topic), key=lambda record: record.source)
        for topic in (DEAD_LETTERS.name, ENRICHED.name)
    )
    assert len(written) == 2 + 193 + 1
    assert [(r.partition, r.key, r.value, r.headers) for r in written] == [
        (r.partition, r.key, r.value, r.headers) for r in expected
    ]


def test_messages_without_a_key_are_spread(kafka: LocalKafka) -> None:
    write(kafka, batch_of([None] * 1_000, [b"v"] * 1_000), linger_ms="0", sticky_partitioning_linger_ms="0")
    records = read_topic(kafka.bootstrap_servers, FINAL.name)
    assert {record.key for record in records} == {None}
    assert len({record.partition for record in records}) > 1
    assert len(records) == 1_000


def test_a_message_that_no_broker_would_take_fails_the_bundle(
    kafka: LocalKafka, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError, match="delivery failed: Broker: Message size too large"):
        write(kafka, batch_of([b"1", b"2", b"3"], [b"small", b"L" * LARGE, b"small"]))
    assert [record.event for record in caplog.records if record.name.startswith("orion_beam")] == ["delivery_failed"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    with kafka_in(tmp_path_factory.mktemp("letters") / "kafka") as broker:
        yield broker


PILL = random.Random(1).randbytes(1_048_100)
"""As large as a raw topic takes, and nothing makes it shorter."""


def test_a_dead_letter_of_the_largest_record_fits_on_its_topic(shared: LocalKafka) -> None:
    before = len(read_topic(shared.bootstrap_servers, DEAD_LETTERS.name))
    write_letters(shared, letters_of({"value": b"small"}, {"value": PILL}, {"value": b"small"}))
    written = read_topic(shared.bootstrap_servers, DEAD_LETTERS.name)[before:]
    assert sorted(len(record.payload) for record in written) == [5, 5, len(PILL)]


@pytest.mark.parametrize("refused_by", ["producer", "broker"])
def test_a_dead_letter_that_its_topic_does_not_take_goes_by_reference_and_its_neighbours_whole(
    shared: LocalKafka, caplog: pytest.LogCaptureFixture, refused_by: str
) -> None:
    key = refused_by.encode()
    large = b"L" * LARGE if refused_by == "producer" else PILL
    changes = [{"key": key, "value": b"%d" % number, "source_offset": number} for number in range(100)]
    with settings_of(shared.bootstrap_servers, DEAD_LETTERS.name, {"max.message.bytes": "1048588"}):
        write_letters(shared, letters_of(*changes[:50], {"key": key, "value": large}), letters_of(*changes[50:]))
    records = [record for record in read_topic(shared.bootstrap_servers, DEAD_LETTERS.name) if record.key == key]
    letters = [letter for record in records if (letter := letter_of(record.key, record.value, record.headers))]
    assert sorted(letter["value"] for letter in letters if letter["reference"] is None) == sorted(
        change["value"] for change in changes
    )
    (reference,) = [letter for letter in letters if letter["reference"] == "open"]
    assert reference["value"] is None
    assert reference["payload_bytes"] == len(large)
    assert reference["source_offset"] == LETTER["source_offset"]
    events = [record.event for record in caplog.records if record.name.startswith("orion_beam")]
    assert events == ["letter_by_reference"]


def test_a_topic_that_takes_no_letter_however_short_fails_the_bundle(kafka: LocalKafka) -> None:
    settings = settings_of(kafka.bootstrap_servers, DEAD_LETTERS.name, {"max.message.bytes": "100"})
    with (
        settings,
        pytest.raises(
            RuntimeError, match="it refuses the dead letter of a record even without the payload.*; topic cdr.dlq"
        ),
    ):
        write_letters(kafka, letters_of({"value": b"small"}))


def test_a_producer_that_is_dropped_is_ended(kafka: LocalKafka) -> None:
    before = threads()
    producer = ColumnProducer(producer_config(kafka.bootstrap_servers, {}), lambda *_: None, logging.getLogger())
    producer.produce(FINAL.name, pa.array([b"k"], pa.binary()), pa.array([b"v"], pa.binary()))
    assert producer.flush(600) == 0
    assert threads() > before
    del producer
    await_until(lambda: threads() <= before, 600, "its threads have ended")


def test_a_writer_that_is_torn_down_leaves_no_thread(kafka: LocalKafka) -> None:
    before = threads()
    for write_fn in (_WriteMessagesFn, _WriteDeadLettersFn):
        writer = write_fn(producer_config(kafka.bootstrap_servers, {}), FINAL.name)
        writer.teardown()
        writer.setup()
        writer.start_bundle()
        writer.finish_bundle()
        assert threads() > before
        writer.teardown()
        await_until(lambda: threads() <= before, 600, "its threads have ended")


def test_values_are_kept_until_they_are_delivered_and_no_longer(kafka: LocalKafka) -> None:
    # Nothing is sent before it is asked for.
    config = producer_config(kafka.bootstrap_servers, {"linger.ms": "60000"})
    producer = ColumnProducer(config, lambda *_: None, logging.getLogger())
    expected = [b"value %d" % number for number in range(MESSAGES)]
    values = pa.array(expected, pa.binary())
    producer.produce(FINAL.name, pa.array([b"key"] * MESSAGES, pa.binary()), values)
    kept = weakref.ref(values)
    del values
    # What was freed would be written over.
    others = [pa.array([b"other %d" % number for number in range(MESSAGES)], pa.binary()) for _ in range(3)]
    assert kept() is not None
    assert producer.held == MESSAGES
    assert producer.flush(600) == producer.held == 0
    assert kept() is None
    del others
    assert [record.value for record in read_topic(kafka.bootstrap_servers, FINAL.name)] == expected


def threads() -> int:
    """Return how many threads this process has, those of libraries too."""
    return psutil.Process().num_threads()
