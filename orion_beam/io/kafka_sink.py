"""Kafka writes: messages and dead letters; the broker has all of them before a bundle ends."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
from confluent_kafka import KafkaError

from orion_beam.config import KafkaSink
from orion_beam.io.letter_headers import by_reference, messages_of
from orion_beam.kafka.clients import job_producer_config
from orion_beam.kafka.column_producer import ColumnProducer, DeliveryRefusal
from orion_beam.kafka.login import login_file, login_settings, use_login_file
from orion_beam.telemetry.worker_metrics import worker_metrics
from orion_beam.transforms.stage.batches import join_small_batches

MAX_IN_FLIGHT = 100_000
"""Messages that a producer may hold when it takes another batch; see `ColumnProducer.held`."""

ENOUGH_LETTERS_BYTES = 1 << 20
"""Payload bytes at which waiting dead letters are written before their bundle ends."""

MAX_KEPT_BYTES = 64 << 20
"""Payload bytes of undelivered dead letters to keep; above this, the writer waits until they are delivered."""

WARN_AFTER_S = 30.0
"""Seconds that the broker may take to acknowledge a bundle; a warning is logged each time they pass."""

TELL_EVERY_S = 1.0
"""Seconds after which a wait for brokers counts before it has ended. A bundle may wait for minutes."""

_OF_ONE_MESSAGE = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    # Another message of the same request is invalid: the broker refuses the request as a whole.
    KafkaError._INVALID_DIFFERENT_RECORD,
}
"""Errors about a single message, and not about its topic or the broker."""

_logger = logging.getLogger(__name__)


class DeliveryError(RuntimeError):
    """The broker refused a message for good; Beam fails the bundle and tries it again."""


class _Writer:
    """Producer whose `flush` returns when every message is delivered, and raises DeliveryError otherwise.

    Attributes:
        refused: Numbers of the messages that the broker refused for an error in `_OF_ONE_MESSAGE`. `flush` does not
            raise for them: sending them again cannot succeed.
    """

    def __init__(self, config: Mapping[str, Any], on_wait: Callable[[float], None]) -> None:
        """Take the producer's settings, and what is told the seconds of each wait for brokers."""
        self.refused: list[int] = []
        self._on_wait = on_wait
        self._failure: str | None = None
        self._producer = ColumnProducer(config, self._note, _logger)

    def write(
        self, topic: str, keys: pa.BinaryArray, values: pa.BinaryArray, headers: pa.ListArray | None = None
    ) -> int:
        """Queue messages; return the number of the first one, or 0 if they have no headers."""
        self._wait_for_room()
        first = self._producer.produce(topic, keys, values, headers)
        self._raise_failure()
        return first

    def flush(self) -> None:
        warn_at = time.monotonic() + WARN_AFTER_S
        told_to = time.perf_counter()
        # Inside one call, librdkafka checks only every 10 ms whether all is delivered; short calls notice it earlier.
        while left := self._producer.flush(0.001):
            self._raise_failure()
            told_to = self._tell_wait(told_to, TELL_EVERY_S)
            if time.monotonic() > warn_at:
                waiting = {"event": "waiting_for_broker"}
                _logger.warning("waiting for the broker: %d messages not yet acknowledged", left, extra=waiting)
                warn_at = time.monotonic() + WARN_AFTER_S
        self._tell_wait(told_to)
        self._raise_failure()

    def fail(self, topic: str, partition: int, reason: str) -> None:
        """Count and log a failed delivery; the next `flush` or `write` raises DeliveryError."""
        if (metrics := worker_metrics()) is not None:
            metrics.produce_failed(topic)
        # A reason never contains the content of a message.
        where = {"event": "delivery_failed", "topic": topic, "partition": partition}
        _logger.error("delivery failed: %s", reason, extra=where)
        self._failure = self._failure or f"delivery failed: {reason}; topic {topic}"

    def close(self) -> None:
        """Close the producer and drop undelivered messages."""
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
        told_to = time.perf_counter()
        while self._producer.held > MAX_IN_FLIGHT:
            self._serve(0.005)
            told_to = self._tell_wait(told_to, TELL_EVERY_S)
        self._tell_wait(told_to)

    def _tell_wait(self, since: float, least_s: float = 0.0) -> float:
        """Tell of a wait while it goes on, if it is long enough; return the time up to which it is told."""
        now = time.perf_counter()
        if now - since < least_s:
            return since
        self._on_wait(now - since)
        return now

    def _serve(self, timeout_s: float) -> None:
        self._producer.poll(timeout_s)
        self._raise_failure()


class _WriteFn(beam.DoFn):  # type: ignore[misc]
    """Base of both writes: one producer per DoFn instance, flushed before a bundle ends."""

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._config = config
        self._topic = topic
        self._login = login_file()

    def setup(self) -> None:
        use_login_file(self._login)
        self._writer = _Writer({**login_settings(), **self._config}, self._waited)

    def finish_bundle(self) -> None:
        began = time.perf_counter()
        self._settle()
        if (metrics := worker_metrics()) is not None:
            metrics.flushed(self._topic, time.perf_counter() - began)

    def teardown(self) -> None:
        """Close the producer, or its threads stay until the process ends."""
        if (writer := getattr(self, "_writer", None)) is not None:
            writer.close()

    def _settle(self) -> None:
        """Wait until all written messages are delivered."""
        self._writer.flush()

    def _waited(self, seconds: float) -> None:
        if (metrics := worker_metrics()) is not None:
            metrics.waited(self._topic, seconds)

    def _count(self, batch: pa.RecordBatch) -> None:
        if (metrics := worker_metrics()) is not None:
            metrics.produced(self._topic, batch.num_rows)


class _WriteMessagesFn(_WriteFn):
    def process(self, batch: pa.RecordBatch) -> None:
        self._writer.write(self._topic, batch.column("key"), batch.column("value"))
        self._count(batch)


class _WriteDeadLettersFn(_WriteFn):
    """Joins the dead letters of stages and countries: a batch of few rows costs as much as one of many.

    Keeps letters until they are delivered, since a letter that the broker refuses is written again by reference.
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
        """Write a refused letter again as it is, and by reference if the broker refuses it a second time.

        The first refusal may have been for another letter of the same request.

        Raises:
            DeliveryError: The broker refuses the letter by reference, too.
        """
        for again in (letter, by_reference(letter)):
            self._writer.write(self._topic, *messages_of(again).columns)
            self._writer.flush()
            if not self._writer.refused:
                break
            self._writer.refused.clear()
        else:
            self._writer.fail(self._topic, -1, "it refuses the dead letter of a record even without the payload")
            self._writer.flush()
        if again is not letter:
            names = ("source_topic", "source_partition", "source_offset", "country")
            topic, partition, offset, country = (letter.column(name)[0].as_py() for name in names)
            _logger.warning(
                "%s refuses a dead letter as too large: the letter goes without the payload, which stays on %s[%s]@%s",
                self._topic, topic, partition, offset,
                extra={"event": "letter_by_reference", "country": country,
                       "topic": topic, "partition": partition, "offset": offset},
            )  # fmt: skip


class ProduceMessages(beam.PTransform):  # type: ignore[misc]
    """Writes encoded CDRs to a topic.

    In: `pa.RecordBatch` of `encode.ENCODED_SCHEMA`. At least once: a bundle ends only when the broker has
    acknowledged (acks=all) every message, and a failed bundle is written again. Messages of one key keep their order.
    """

    def __init__(self, sink: KafkaSink, topic: str) -> None:
        """Take the sink and the topic, and check the producer's settings."""
        super().__init__()
        self.topic = topic
        self.config = job_producer_config(sink.bootstrap_servers, sink.producer_config)

    def expand(self, messages: beam.PCollection) -> beam.PCollection:
        """Write each batch."""
        return messages | beam.ParDo(_WriteMessagesFn(self.config, self.topic))


class ProduceDeadLetters(beam.PTransform):  # type: ignore[misc]
    """Writes dead letters to a topic: the original key and value, with the reasons as headers.

    In: `pa.RecordBatch` of `dead_letter.DEAD_LETTER_SCHEMA`. At least once, as ProduceMessages. A letter that the
    topic refuses, for instance because it is too large, is written by reference, so no single record fails a job.
    """

    def __init__(self, sink: KafkaSink) -> None:
        """Take the sink, and check the producer's settings."""
        super().__init__()
        self.topic = sink.dead_letter_topic
        self.config = job_producer_config(sink.bootstrap_servers, sink.producer_config)

    def expand(self, letters: beam.PCollection) -> beam.PCollection:
        """Write each batch."""
        return letters | beam.ParDo(_WriteDeadLettersFn(self.config, self.topic))
