"""Where dead letters may go back to: the raw topics of known countries, as the broker has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from confluent_kafka import TopicCollection
from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]  # re-exported implicitly

from orion_beam.countries import all_profiles
from orion_beam.kafka.topics import TIMEOUT_S, admin_client
from transforms.texts import Mask, to_list

_MARGIN = timedelta(days=1)
"""How long a record must have left on its topic, so that a job can read it."""


@dataclass(frozen=True)
class Target:
    """A raw topic.

    Attributes:
        country: whose it is.
        partitions: how many it has.
        retention: how long it keeps records; None for always.
    """

    country: str
    partitions: int
    retention: timedelta | None


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
        existing = admin.list_topics(timeout=TIMEOUT_S).topics
        own = {each.topic: code for code, each in all_profiles().items() if each.topic in existing}
        wanted = [ConfigResource(ResourceType.TOPIC, name) for name in own]
        configs = admin.describe_configs(wanted, request_timeout=TIMEOUT_S) if wanted else {}
        keep = {resource.name: int(future.result()["retention.ms"].value) for resource, future in configs.items()}
        described = admin.describe_topics(TopicCollection([letter_topic]), request_timeout=TIMEOUT_S)
        topics = {
            name: Target(
                country,
                len(existing[name].partitions),
                timedelta(milliseconds=keep[name]) if keep[name] >= 0 else None,
            )
            for name, country in own.items()
        }
        return cls(str(described[letter_topic].result().topic_id), topics, datetime.now(UTC))

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

    def are_young(self, letters: pa.RecordBatch) -> Mask:
        """Say which letters their topic would still keep for a while; all must be from one that `hold` knows."""
        topics, stamps = to_list(letters.column("source_topic")), letters.column("source_timestamp").to_pylist()
        oldest = {name: self._oldest(target) for name, target in self.topics.items()}
        return np.array(
            [stamp is None or stamp >= oldest[topic] for topic, stamp in zip(topics, stamps, strict=True)], np.bool_
        )

    def _oldest(self, target: Target) -> datetime:
        if target.retention is None:
            return datetime.min.replace(tzinfo=UTC)
        return self.now - (target.retention - min(_MARGIN, target.retention / 2))
