"""Where dead letters may go back to: the raw topics of known countries, as the broker has them."""

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
"""How long a record must have left on its topic, so that a job can read it."""

_FOREVER_MS = 1 << 50
"""More than that is no limit; Kafka's own word for it is 2^63 - 1."""


_FRAMING_BYTES = 320
"""What Kafka adds to a message that is alone in its batch, and the headers of a redrive."""


def _framed(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return bytes of messages on their topic: a broker that compresses makes a little more of what is random."""
    framed: npt.NDArray[np.int64] = sizes + _FRAMING_BYTES + sizes // 3_000
    return framed


def _lengths_of(column: pa.Array) -> npt.NDArray[np.int64]:
    """Return bytes of each row: of a list of headers, of their names and values, and of what Kafka adds to each."""
    if not pa.types.is_list(column.type):
        return np.where(is_null(column), 0, lengths_of(column)).astype(np.int64)
    pairs = column.flatten()
    of_pairs = 10 + _lengths_of(pairs.field("key")) + _lengths_of(pairs.field("value"))
    rows = np.repeat(np.arange(len(column)), lengths_of(column))
    return np.bincount(rows, of_pairs, minlength=len(column)).astype(np.int64)


@dataclass(frozen=True)
class Target:
    """A raw topic.

    Attributes:
        country: whose it is.
        partitions: how many it has.
        retention: how long it keeps records, by their timestamps; None for always.
        topic_id: Kafka's.
        max_bytes: of a message, compressed.
        takes_before: how far behind the present a record's timestamp may be for the broker to take it,
        takes_after: and how far ahead; None for any.
        has_own_timestamps: it keeps those that records are sent with, and does not set the time of their arrival.
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
    """The raw topics that there are.

    Attributes:
        letter_topic_id: Kafka's id of the dead letters' topic.
        topics: by name.
        now: what age is counted from.
    """

    letter_topic_id: str
    topics: Mapping[str, Target]
    now: datetime

    @classmethod
    def of(cls, bootstrap_servers: str, letter_topic: str) -> "Targets":
        """Ask the broker."""
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
        """Say which letters (LETTER_SCHEMA) are from a partition of their country's raw topic that is there."""
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
        """Say which letters are not too large for their topic; all must be from one that `hold` knows."""
        sizes = np.zeros(letters.num_rows, np.int64)
        for name in ("key", "value", "headers"):
            sizes += _lengths_of(letters.column(name))
        limits = np.array([self.topics[topic].max_bytes for topic in to_list(letters.column("source_topic"))], np.int64)
        fits = _framed(sizes) <= limits
        for row in np.flatnonzero(~fits).tolist():
            # The topic counts what is kept, which is compressed.
            value = letters.column("value")[row].as_py() or b""
            saved = len(value) - len(pa.compress(value, codec="snappy", asbytes=True))
            fits[row] = _framed(sizes[row] - saved) <= limits[row]
        return fits

    def keep_timestamps(self, letters: pa.RecordBatch) -> Mask:
        """Say which letters their topic would take and keep for a while with the timestamps that they had.

        All must be from a topic that `hold` knows.
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
        """Return the first and the last timestamp, in epoch seconds, that a record may have."""
        now, ages = self.now.timestamp(), [math.inf]
        if target.retention is not None:
            ages.append((target.retention - min(_MARGIN, target.retention / 2)).total_seconds())
        if target.takes_before is not None:
            ages.append(target.takes_before.total_seconds())
        return now - min(ages), now + (math.inf if target.takes_after is None else target.takes_after.total_seconds())


def _span(settings: Mapping[str, ConfigEntry], name: str) -> timedelta | None:
    """Return a topic's setting in milliseconds; None for one that has no limit, or that this broker does not have."""
    milliseconds = int(settings[name].value or -1) if name in settings else -1
    return timedelta(milliseconds=milliseconds) if 0 <= milliseconds < _FOREVER_MS else None
