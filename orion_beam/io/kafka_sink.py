"""Writing Kafka: messages and dead letters, all delivered before a bundle ends."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
from confluent_kafka import KafkaError

from orion_beam.config import KafkaSink
from orion_beam.io.letter_headers import by_reference, messages_of
from orion_beam.kafka.clients import producer_config
from orion_beam.kafka.column_producer import ColumnProducer, DeliveryRefusal
from orion_beam.telemetry.worker_metrics import worker_metrics
from orion_beam.transforms.stage.batches import join_small_batches

MAX_IN_FLIGHT = 100_000
"""Messages that a producer holds at most before it takes a batch more, see `ColumnProducer.held`."""

ENOUGH_LETTERS_BYTES = 1 << 20
"""Of payloads, with which dead letters do not wait for more of their bundle."""

MAX_KEPT_BYTES = 64 << 20
"""Of payloads of dead letters that are not delivered yet, and are kept in case that they are refused."""

WARN_AFTER_S = 30.0
"""How long the broker may take to acknowledge a bundle before that is logged, and logged again."""

_OF_ONE_MESSAGE = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    # The broker refuses a request as a whole, and names the message that is to blame.
    KafkaError._INVALID_DIFFERENT_RECORD,
}
"""Errors that are about a message, and not about its topic or the broker."""

_logger = logging.getLogger(__name__)


class DeliveryError(RuntimeError):
    """The broker refused a message for good; the bundle fails and is tried again."""


class _Writer:
    """Everything that was written is delivered when `flush` returns, or it raises.

    Attributes:
        refused: numbers of messages that were refused, by what is wrong with them alone: nobody will ever take them.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.refused: list[int] = []
        self._failure: str | None = None
        self._producer = ColumnProducer(config, self._note, _logger)

    def write(
        self, topic: str, keys: pa.BinaryArray, values: pa.BinaryArray, headers: pa.ListArray | None = None
    ) -> int:
        """Queue messages; return the number of the first, if they have headers."""
        self._wait_for_room()
        first = self._producer.produce(topic, keys, values, headers)
        self._raise_failure()
        return first

    def flush(self) -> None:
        warn_at = time.monotonic() + WARN_AFTER_S
        # librdkafka looks only every 10 ms whether everything has arrived, so it is asked more often than that.
        while left := self._producer.flush(0.001):
            self._raise_failure()
            if time.monotonic() > warn_at:
                waiting = {"event": "waiting_for_broker"}
                _logger.warning("waiting for the broker: %d messages not yet acknowledged", left, extra=waiting)
                warn_at = time.monotonic() + WARN_AFTER_S
        self._raise_failure()

    def fail(self, topic: str, partition: int, reason: str) -> None:
        """Count and log that a topic refuses what it is sent; `flush` and `write` then raise."""
        if (metrics := worker_metrics()) is not None:
            metrics.produce_failed(topic)
        # The reason is the broker's or librdkafka's, and never a message's content.
        where = {"event": "delivery_failed", "topic": topic, "partition": partition}
        _logger.error("delivery failed: %s", reason, extra=where)
        self._failure = self._failure or f"delivery failed: {reason}; topic {topic}"

    def close(self) -> None:
        """End the producer; what is not delivered is dropped."""
        self._producer.close()

    def _note(self, refusal: DeliveryRefusal) -> None:
        if refusal.number and refusal.code in _OF_ONE_MESSAGE:
            self.refused.append(refusal.number)
            return
        self.fail(refusal.topic, refusal.partition, refusal.reason)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise DeliveryError(failure)

    def _wait_for_room(self) -> None:
        self._serve(0)
        while self._producer.held > MAX_IN_FLIGHT:
            self._serve(0.005)

    def _serve(self, timeout_s: float) -> None:
        self._producer.poll(timeout_s)
        self._raise_failure()


class _WriteFn(beam.DoFn):  # type: ignore[misc]
    """Shared by both writes: a producer for each DoFn instance, flushed before a bundle ends."""

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._config = config
        self._topic = topic

    def setup(self) -> None:
        self._writer = _Writer(self._config)

    def finish_bundle(self) -> None:
        began = time.perf_counter()
        self._settle()
        if (metrics := worker_metrics()) is not None:
            metrics.flushed(self._topic, time.perf_counter() - began)

    def teardown(self) -> None:
        """End the producer, whose threads would stay until the process ends."""
        if (writer := getattr(self, "_writer", None)) is not None:
            writer.close()

    def _settle(self) -> None:
        """Wait until all that was written is delivered."""
        self._writer.flush()

    def _count(self, batch: pa.RecordBatch) -> None:
        if (metrics := worker_metrics()) is not None:
            metrics.produced(self._topic, batch.num_rows)


class _WriteMessagesFn(_WriteFn):
    def process(self, batch: pa.RecordBatch) -> None:
        self._writer.write(self._topic, batch.column("key"), batch.column("value"))
        self._count(batch)


class _WriteDeadLettersFn(_WriteFn):
    """Joins the dead letters of stages and countries: each batch has few, and costs as much as one of many.

    A letter that is refused is written again by reference. So letters are kept until they are delivered.
    """

    def start_bundle(self) -> None:
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._sent: list[tuple[int, pa.RecordBatch]] = []
        self._sent_bytes = 0

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
        for letters in join_small_batches(self._waiting):
            self._sent.append((self._writer.write(self._topic, *messages_of(letters).columns), letters))
            self._count(letters)
        self._sent_bytes += self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0
        if self._sent_bytes >= MAX_KEPT_BYTES or sum(letters.num_rows for _, letters in self._sent) >= MAX_IN_FLIGHT:
            self._settle()

    def _settle(self) -> None:
        super()._settle()
        refused, self._writer.refused = sorted(self._writer.refused), []
        for first, letters in self._sent:
            for number in refused:
                if first <= number < first + letters.num_rows:
                    self._write_again(letters.slice(number - first, 1))
        self._sent, self._sent_bytes = [], 0

    def _write_again(self, letter: pa.RecordBatch) -> None:
        """Write a letter that was refused once more, for another one may have been to blame, or else by reference.

        Raises:
            DeliveryError: that is refused as well.
        """
        for again in (letter, by_reference(letter)):
            self._writer.write(self._topic, *messages_of(again).columns)
            self._writer.flush()
            if not self._writer.refused:
                break
            self._writer.refused.clear()
        else:
            self._writer.fail(self._topic, -1, "it takes no dead letter of one record, however short")
            self._writer.flush()
        if again is not letter:
            names = ("source_topic", "source_partition", "source_offset", "country")
            topic, partition, offset, country = (letter.column(name)[0].as_py() for name in names)
            _logger.warning(
                "%s does not take the dead letter of a record: it goes by reference, its payload stays on %s[%s]@%s",
                self._topic, topic, partition, offset,
                extra={"event": "letter_by_reference", "country": country,
                       "topic": topic, "partition": partition, "offset": offset},
            )  # fmt: skip


class ProduceMessages(beam.PTransform):  # type: ignore[misc]
    """Writes encoded CDRs to a topic.

    In: `pa.RecordBatch` of `encode.ENCODED_SCHEMA`. At least once: a bundle ends only when the broker has
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

    In: `pa.RecordBatch` of `dead_letter.DEAD_LETTER_SCHEMA`. At least once, as ProduceMessages. A letter that
    the topic does not take, for instance because it is too large, is written by reference: no record ends a job.
    """

    def __init__(self, sink: KafkaSink) -> None:
        """Check the producer's settings."""
        super().__init__()
        self.topic = sink.dead_letter_topic
        self.config = producer_config(sink.bootstrap_servers, sink.producer_config)

    def expand(self, letters: beam.PCollection) -> beam.PCollection:
        """Write each batch."""
        return letters | beam.ParDo(_WriteDeadLettersFn(self.config, self.topic))
