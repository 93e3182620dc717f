"""Writing Kafka: messages and dead letters, by confluent-kafka, all delivered before a bundle ends."""

import logging
import time
from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any

import apache_beam as beam
import confluent_kafka
import pyarrow as pa
from confluent_kafka import KafkaError, Producer

from orion_beam.config import KafkaSink
from orion_beam.dead_letters import Headers, messages_of
from orion_beam.kafka.clients import producer_config
from orion_beam.worker_metrics import worker_metrics
from transforms.texts import to_list

MAX_IN_FLIGHT = 100_000
"""Messages that a producer holds at most before it takes a batch more."""

_logger = logging.getLogger(__name__)


class DeliveryError(RuntimeError):
    """The broker refused a message for good; the bundle fails and is tried again."""


class _Writer:
    """A producer that has delivered everything when `flush` returns, or raises."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._error: KafkaError | None = None
        self._producer = Producer(dict(config) | {"on_delivery": self._on_error}, logger=_logger)

    def _on_error(self, error: KafkaError | None, message: confluent_kafka.Message) -> None:
        if (metrics := worker_metrics()) is not None:
            metrics.produce_failed(message.topic() or "")
        if error is not None:
            # Its text names the reason, never a message's content.
            where = {"event": "delivery_failed", "topic": message.topic(), "partition": message.partition()}
            _logger.error("delivery failed: %s", error.str(), extra=where)
        self._error = self._error or error

    def write(self, topic: str, messages: Iterable[tuple[bytes | None, bytes | None, Headers | None]]) -> None:
        """Queue messages (key, value, headers), in order. One by one: `produce_batch` looks up every field by name."""
        self._wait_for_room()
        produce = self._producer.produce
        for key, value, headers in messages:
            while True:
                try:
                    if headers is None:
                        # Half the time of a call that names headers and has none.
                        produce(topic, value, key)
                    else:
                        produce(topic, value, key, headers=headers)
                    break
                except BufferError:
                    # A gigabyte is queued: few messages, but large ones.
                    self._serve(0.05)

    def _wait_for_room(self) -> None:
        self._serve(0)
        while len(self._producer) > MAX_IN_FLIGHT:
            self._serve(0.05)

    def _serve(self, timeout_s: float) -> None:
        self._producer.poll(timeout_s)
        self._raise_error()

    def flush(self) -> None:
        while left := self._producer.flush(30):
            self._raise_error()
            waiting = {"event": "waiting_for_broker"}
            _logger.warning("waiting for the broker: %d messages not yet acknowledged", left, extra=waiting)
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise DeliveryError(f"delivery failed: {error.str()}")


class _WriteFn(beam.DoFn):  # type: ignore[misc]
    """Shared by both writes: a producer for each DoFn instance, flushed before a bundle ends."""

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
        keys, values = to_list(batch.column("key")), to_list(batch.column("value"))
        self._writer.write(self._topic, zip(keys, values, repeat(None)))
        self._count(batch)


class _WriteDeadLettersFn(_WriteFn):
    def process(self, batch: pa.RecordBatch) -> None:
        self._writer.write(self._topic, messages_of(batch))
        self._count(batch)


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
