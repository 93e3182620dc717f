"""Writing Kafka: messages and dead letters, all delivered before a bundle ends."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
from confluent_kafka import KafkaException

from orion_beam.config import KafkaSink
from orion_beam.dead_letters import messages_of
from orion_beam.kafka.clients import producer_config
from orion_beam.kafka.column_producer import ColumnProducer
from orion_beam.worker_metrics import worker_metrics
from transforms.batches import joined

MAX_IN_FLIGHT = 100_000
"""Messages that a producer holds at most before it takes a batch more, see `ColumnProducer.held`."""

ENOUGH_LETTERS_BYTES = 1 << 20
"""Of payloads, with which dead letters do not wait for more of their bundle."""

WARN_AFTER_S = 30.0
"""How long the broker may take to acknowledge a bundle before that is logged, and logged again."""

_logger = logging.getLogger(__name__)


class DeliveryError(RuntimeError):
    """The broker refused a message for good; the bundle fails and is tried again."""


class _Failures:
    """Notes the first message that is refused for good."""

    def __init__(self) -> None:
        self._reason: str | None = None

    def add(self, topic: str, partition: int, reason: str) -> None:
        if (metrics := worker_metrics()) is not None:
            metrics.produce_failed(topic)
        # The reason is the broker's or librdkafka's, and never a message's content.
        where = {"event": "delivery_failed", "topic": topic, "partition": partition}
        _logger.error("delivery failed: %s", reason, extra=where)
        self._reason = self._reason or reason

    def raise_first(self) -> None:
        if self._reason is not None:
            reason, self._reason = self._reason, None
            raise DeliveryError(f"delivery failed: {reason}")


class _Writer:
    """Everything that was written is delivered when `flush` returns, or it raises."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._failures = _Failures()
        self._producer = ColumnProducer(config, self._failures.add, _logger)

    def write(
        self, topic: str, keys: pa.BinaryArray, values: pa.BinaryArray, headers: pa.ListArray | None = None
    ) -> None:
        self._wait_for_room()
        try:
            self._producer.produce(topic, keys, values, headers)
        except KafkaException as error:
            self._failures.add(topic, -1, error.args[0].str())
            self._failures.raise_first()

    def flush(self) -> None:
        warn_at = time.monotonic() + WARN_AFTER_S
        # librdkafka looks only every 10 ms whether everything has arrived, so it is asked more often than that.
        while left := self._producer.flush(0.001):
            self._failures.raise_first()
            if time.monotonic() > warn_at:
                waiting = {"event": "waiting_for_broker"}
                _logger.warning("waiting for the broker: %d messages not yet acknowledged", left, extra=waiting)
                warn_at = time.monotonic() + WARN_AFTER_S
        self._failures.raise_first()

    def _wait_for_room(self) -> None:
        self._serve(0)
        while self._producer.held > MAX_IN_FLIGHT:
            self._serve(0.005)

    def _serve(self, timeout_s: float) -> None:
        self._producer.poll(timeout_s)
        self._failures.raise_first()


class _WriteFn(beam.DoFn):  # type: ignore[misc]
    """Shared by both writes: a producer for each DoFn instance, flushed before a bundle ends."""

    _writer: _Writer

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._config = config
        self._topic = topic

    def setup(self) -> None:
        self._writer = _Writer(self._config)

    def finish_bundle(self) -> None:
        began = time.perf_counter()
        self._writer.flush()
        if (metrics := worker_metrics()) is not None:
            metrics.flushed(self._topic, time.perf_counter() - began)

    def _count(self, batch: pa.RecordBatch) -> None:
        if (metrics := worker_metrics()) is not None:
            metrics.produced(self._topic, batch.num_rows)


class _WriteMessagesFn(_WriteFn):
    def process(self, batch: pa.RecordBatch) -> None:
        self._writer.write(self._topic, batch.column("key"), batch.column("value"))
        self._count(batch)


class _WriteDeadLettersFn(_WriteFn):
    """Joins the dead letters of stages and countries: each batch has few, and costs as much as one of many."""

    def start_bundle(self) -> None:
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0

    def process(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._waiting_bytes += batch.column("value").nbytes
        if self._waiting_bytes >= ENOUGH_LETTERS_BYTES:
            self._write()

    def finish_bundle(self) -> None:
        if self._waiting:
            self._write()
        super().finish_bundle()

    def _write(self) -> None:
        letters = joined(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        messages = messages_of(letters)
        self._writer.write(self._topic, *messages.columns)
        self._count(letters)


class ProduceMessages(beam.PTransform):  # type: ignore[misc]
    """Writes encoded CDRs to a topic.

    In: `pa.RecordBatch` of `transforms.encode.ENCODED_SCHEMA`. At least once: a bundle ends only when the broker has
    acknowledged (acks=all) every message, and a failed bundle is written again. A key's messages keep their order.
    """

    def __init__(self, sink: KafkaSink, topic: str) -> None:
        """Check the producer's settings."""
        super().__init__()
        self.topic = topic
        self.config = producer_config(sink.bootstrap_servers, sink.producer_config)

    def expand(self, messages: beam.PCollection) -> beam.PCollection:
        """Write each batch."""
        return messages | beam.ParDo(_WriteMessagesFn(self.config, self.topic))


class ProduceDeadLetters(beam.PTransform):  # type: ignore[misc]
    """Writes dead letters to a topic: original key and value, the reasons as headers.

    In: `pa.RecordBatch` of `schemas.dead_letter.DEAD_LETTER_SCHEMA`. At least once, as ProduceMessages.
    """

    def __init__(self, sink: KafkaSink) -> None:
        """Check the producer's settings."""
        super().__init__()
        self.topic = sink.dead_letter_topic
        self.config = producer_config(sink.bootstrap_servers, sink.producer_config)

    def expand(self, letters: beam.PCollection) -> beam.PCollection:
        """Write each batch."""
        return letters | beam.ParDo(_WriteDeadLettersFn(self.config, self.topic))
