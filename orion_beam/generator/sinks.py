"""Sinks of generated CDRs: Kafka topics, or one file per country."""

import time
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

from confluent_kafka import KafkaError, Message, Producer

from orion_beam.errors import UserError
from orion_beam.generator.batches import GeneratedBatch
from orion_beam.kafka.admin import require_topics
from orion_beam.kafka.login import login_settings
from orion_beam.kafka.retry import DEADLINE_S
from orion_beam.schemas.country import CountryProfile

MAX_OUTSTANDING = 200_000
"""Messages that may wait for the broker before the generator waits for it."""

_FLUSH_S = 0.5
# librdkafka takes timestamp 0 for the present.
_NOW = 0
# Silences librdkafka's own messages about a broker that does not answer; the user gets one line from us.
_QUIET: dict[str, Any] = {"log_level": 2, "error_cb": lambda _: None}


class Sink(Protocol):
    """Target of batches, which takes them in two steps, so that the slow work is done before a record is due."""

    def prepare(self, batch: GeneratedBatch) -> list[Any]:
        """Return one item for each CDR, ready to send."""

    def send(self, profile: CountryProfile, items: list[Any]) -> None:
        """Send prepared items of a country."""

    def __enter__(self) -> "Sink":
        """Open the sink."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until everything has arrived, then close the sink."""


class GeneratedTopics:
    """Produces to each country's raw topic, keyed by IMSI and partitioned as Java clients do."""

    def __init__(self, bootstrap_servers: str, profiles: list[CountryProfile], *, stamps_now: bool = False) -> None:
        """Check within 10 s that the broker answers and that the topics exist.

        Args:
            bootstrap_servers: The brokers.
            profiles: The countries whose topics are needed.
            stamps_now: Whether messages get the time at which they are sent instead of their generated timestamp.

        Raises:
            PrerequisiteError: the broker does not answer, or a topic does not exist.
        """
        require_topics(bootstrap_servers, [profile.topic for profile in profiles])
        self._bootstrap_servers, self._stamps_now = bootstrap_servers, stamps_now
        self._failure: KafkaError | None = None
        self._producer = Producer(
            login_settings()
            | {
                "bootstrap.servers": bootstrap_servers,
                # Retries leave no duplicates: N records become N messages.
                "enable.idempotence": True,
                "compression.type": "snappy",
                "partitioner": "murmur2_random",
                "linger.ms": 10,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": 2 * MAX_OUTSTANDING,
                "queue.buffering.max.kbytes": 1_048_576,
                # A callback for every delivered message would cost more than producing it.
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
                **_QUIET,
            }
        )

    def prepare(self, batch: GeneratedBatch) -> list[Any]:
        """Return (key, value, timestamp) of each message."""
        timestamps = [_NOW] * len(batch) if self._stamps_now else batch.timestamp.to_physical().to_list()
        return list(zip(batch.key.to_list(), batch.value.to_list(), timestamps, strict=True))

    def send(self, profile: CountryProfile, items: list[Any]) -> None:
        """Hand messages to the producer; wait while too many are under way.

        Raises:
            UserError: the broker refused a message, or did not take one in time.
        """
        self._wait_for_room()
        topic, produce = profile.topic, self._producer.produce
        # One by one: `produce_batch` takes no timestamps and is no faster.
        for key, value, timestamp in items:
            try:
                produce(topic, value, key, -1, None, None, timestamp)
            except BufferError:
                # Several thousand oversized records fill the queue's byte limit.
                self._wait_for_room()
                produce(topic, value, key, -1, None, None, timestamp)

    def _wait_for_room(self) -> None:
        self._producer.poll(0)
        while len(self._producer) > MAX_OUTSTANDING and self._failure is None:
            self._producer.poll(0.02)
        self._raise_failure()

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        self._failure = error or self._failure

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise UserError(f"Kafka at {self._bootstrap_servers} did not take a record: {self._failure.str()}")

    def __enter__(self) -> "GeneratedTopics":
        """Return the sink, which is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until the broker has everything.

        Raises:
            UserError: the broker did not take everything.
        """
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            self._producer.purge()
            return
        waiting, give_up = len(self._producer), time.monotonic() + DEADLINE_S
        # Flush in short steps, which Ctrl-C can end. The wait lasts as long as the broker takes records.
        while left := self._producer.flush(_FLUSH_S):
            self._raise_failure()
            if left < waiting:
                waiting, give_up = left, time.monotonic() + DEADLINE_S
            elif time.monotonic() > give_up:
                raise UserError(
                    f"Kafka at {self._bootstrap_servers} took none of {left:,} records for {DEADLINE_S:.0f} s:"
                    " look whether all its brokers are up, and generate again"
                )
        self._raise_failure()


def file_name(profile: CountryProfile) -> str:
    """Return the name of a country's file; its ending fits the format of most of its lines."""
    usual = profile.formats[0] if profile.formats else "json"
    ending = "jsonl" if usual.endswith("json") else "csv" if usual.endswith("semicolon") else "txt"
    return f"{profile.code}.{ending}"


class GeneratedFiles:
    """Writes one file per country, one CDR per line, and replaces existing files."""

    def __init__(self, directory: Path, profiles: list[CountryProfile]) -> None:
        """Create the directory and open the files.

        Raises:
            UserError: the directory cannot be created or written to.
        """
        self._files: dict[str, BinaryIO] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for profile in profiles:
                self._files[profile.code] = (directory / file_name(profile)).open("wb")
        except OSError as error:
            self._close()
            raise UserError(f"cannot write to {error.filename or directory}: {error.strerror}") from None

    def prepare(self, batch: GeneratedBatch) -> list[Any]:
        """Return the payloads; a batch made with `fits_lines` has neither nulls nor newlines."""
        return batch.value.to_list()

    def send(self, profile: CountryProfile, items: list[Any]) -> None:
        """Write payloads, one per line.

        Raises:
            UserError: the disk is full, or the file cannot be written.
        """
        try:
            self._files[profile.code].write(b"\n".join(items) + b"\n")
        except OSError as error:
            raise UserError(f"cannot write {self._files[profile.code].name}: {error.strerror}") from None

    def _close(self) -> None:
        for file in self._files.values():
            file.close()

    def __enter__(self) -> "GeneratedFiles":
        """Return the sink, which is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self._close()
