"""Targets of a redrive: the raw topics of known countries, with the limits that the broker sets for them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka.admin import ConfigEntry, ConfigResource, ResourceType  # type: ignore[attr-defined]  # re-exported implicitly

from orion_beam.countries import all_profiles
from orion_beam.kafka.admin import admin_client, at_controller, cluster_metadata, require_among, topic_ids
from orion_beam.kafka.retry import retried
from orion_beam.topics.catalogue import SIZE_LIMIT_SETTING
from orion_beam.transforms.arrow.texts import Mask, is_null, lengths_of, to_list

_MARGIN = timedelta(days=1)
"""Time that a record must still be retained on its topic, so that a job can read it."""

_FOREVER_MS = 1 << 50
"""Settings from this value on mean no limit; Kafka's own value for that is 2^63 - 1."""


_FRAMING_BYTES = 320
"""Bytes that Kafka adds to a message that is alone in its batch, plus those of a redrive's headers."""


def _framed(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the sizes of messages on their topic, in bytes: compression makes random bytes a little longer."""
    framed: npt.NDArray[np.int64] = sizes + _FRAMING_BYTES + sizes // 3_000
    return framed


def _lengths_of(column: pa.Array) -> npt.NDArray[np.int64]:
    """Return the bytes of each row; for a list of headers, of their names, their values and Kafka's framing of each."""
    if not pa.types.is_list(column.type):
        return np.where(is_null(column), 0, lengths_of(column)).astype(np.int64)
    pairs = column.flatten()
    of_pairs = 10 + _lengths_of(pairs.field("key")) + _lengths_of(pairs.field("value"))
    rows = np.repeat(np.arange(len(column)), lengths_of(column))
    return np.bincount(rows, of_pairs, minlength=len(column)).astype(np.int64)


@dataclass(frozen=True)
class Target:
    """Raw topic.

    Attributes:
        country: Code of the topic's country.
        partitions: Number of partitions.
        retention: Time for which records are kept, by their timestamps; None for no end.
        topic_id: Kafka's id of the topic.
        max_bytes: Maximum size of a message, compressed.
        takes_before: Maximum age of a record's timestamp that the broker accepts; None for any.
        takes_after: Maximum time of a timestamp in the future that the broker accepts; None for any.
        has_own_timestamps: Whether the topic keeps the timestamps of records (`CreateTime`), and does not replace them
            with the time of arrival.
    """

    country: str
    partitions: int
    retention: timedelta | None
    topic_id: str
    max_bytes: int
    takes_before: timedelta | None = None
    takes_after: timedelta | None = None
    has_own_timestamps: bool = True


@dataclass(frozen=True)
class Targets:
    """Existing raw topics.

    Attributes:
        letter_topic_id: Kafka's id of the dead letters' topic.
        topics: Raw topics by name.
        now: Time from which ages are counted.
    """

    letter_topic_id: str
    topics: Mapping[str, Target]
    now: datetime

    @classmethod
    def of(cls, bootstrap_servers: str, letter_topic: str) -> "Targets":
        """Ask the broker for the raw topics of all known countries.

        Raises:
            PrerequisiteError: The broker cannot be reached, or lacks the dead letters' topic.
            KafkaRefusedError: The broker reports another error.
        """
        admin = admin_client(bootstrap_servers)
        existing = cluster_metadata(admin, bootstrap_servers).topics
        own = {each.topic: code for code, each in all_profiles().items() if each.topic in existing}
        wanted = [ConfigResource(ResourceType.TOPIC, name) for name in own]

        def ask(timeout_s: float) -> dict[str, dict[str, ConfigEntry]]:
            configs = at_controller(admin).describe_configs(wanted, request_timeout=timeout_s) if wanted else {}
            return {resource.name: future.result() for resource, future in configs.items()}

        require_among(existing, bootstrap_servers, [letter_topic])
        settings = retried(f"the settings of {', '.join(own)}", bootstrap_servers, ask, topics_exist=True)
        ids = topic_ids(bootstrap_servers, [letter_topic, *own])
        topics = {
            name: Target(
                country,
                len(existing[name].partitions),
                _span(settings[name], "retention.ms"),
                ids[name],
                int(settings[name][SIZE_LIMIT_SETTING].value or 0),
                _span(settings[name], "message.timestamp.before.max.ms"),
                _span(settings[name], "message.timestamp.after.max.ms"),
                settings[name]["message.timestamp.type"].value == "CreateTime",
            )
            for name, country in own.items()
        }
        return cls(ids[letter_topic], topics, datetime.now(UTC))

    @property
    def topic_ids(self) -> dict[str, str]:
        """Kafka's ids of the raw topics, by name."""
        return {name: target.topic_id for name, target in self.topics.items()}

    def hold(self, letters: pa.RecordBatch) -> Mask:
        """Return which letters (LETTER_SCHEMA) are from an existing partition of their country's raw topic."""
        columns = (to_list(letters.column(name)) for name in ("source_topic", "source_partition", "country"))
        return np.array(
            [
                (target := self.topics.get(topic)) is not None
                and partition < target.partitions
                and target.country == country
                for topic, partition, country in zip(*columns, strict=True)
            ],
            np.bool_,
        )

    def take(self, letters: pa.RecordBatch) -> Mask:
        """Return which letters are not too large for their topic; `hold` must be true for all letters."""
        sizes = np.zeros(letters.num_rows, np.int64)
        for name in ("key", "value", "headers"):
            sizes += _lengths_of(letters.column(name))
        limits = np.array([self.topics[topic].max_bytes for topic in to_list(letters.column("source_topic"))], np.int64)
        fits = _framed(sizes) <= limits
        for row in np.flatnonzero(~fits).tolist():
            # The limit of the topic applies to the compressed message.
            value = letters.column("value")[row].as_py() or b""
            saved = len(value) - len(pa.compress(value, codec="snappy", asbytes=True))
            fits[row] = _framed(sizes[row] - saved) <= limits[row]
        return fits

    def keep_timestamps(self, letters: pa.RecordBatch) -> Mask:
        """Return which letters their topic would accept, and keep long enough, with their own timestamps.

        `hold` must be true for all letters.
        """
        topics, stamps = to_list(letters.column("source_topic")), letters.column("source_timestamp").to_pylist()
        kept = {name: self._kept_timestamps(target) for name, target in self.topics.items()}
        return np.array(
            [
                self.topics[topic].has_own_timestamps
                and (stamp is None or kept[topic][0] <= stamp.timestamp() <= kept[topic][1])
                for topic, stamp in zip(topics, stamps, strict=True)
            ],
            np.bool_,
        )

    def _kept_timestamps(self, target: Target) -> tuple[float, float]:
        """Return the earliest and the latest timestamp that a record may have, in epoch seconds."""
        now, ages = self.now.timestamp(), [math.inf]
        if target.retention is not None:
            ages.append((target.retention - min(_MARGIN, target.retention / 2)).total_seconds())
        if target.takes_before is not None:
            ages.append(target.takes_before.total_seconds())
        return now - min(ages), now + (math.inf if target.takes_after is None else target.takes_after.total_seconds())


def _span(settings: Mapping[str, ConfigEntry], name: str) -> timedelta | None:
    """Parse a topic's setting in milliseconds; return None for no limit, or if the broker lacks the setting."""
    milliseconds = int(settings[name].value or -1) if name in settings else -1
    return timedelta(milliseconds=milliseconds) if 0 <= milliseconds < _FOREVER_MS else None
