"""What a Kafka cluster really has: its topics and brokers with their settings, as they are now."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    ConfigSource,
    ResourceType,
)

from orion_beam.kafka.admin import admin_client, cluster_metadata
from orion_beam.kafka.retry import retried

_INTERNAL_PREFIX = "__"
"""Of Kafka's own topics: offsets, transactions."""


@dataclass(frozen=True)
class FoundTopic:
    """A topic as it is.

    Attributes:
        replication: on how many brokers each partition is kept, of the partition with the fewest.
        settings: all of Kafka's, with their defaults.
        own: names of those that were set for this topic.
    """

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str]
    own: frozenset[str]


@dataclass(frozen=True)
class ClusterState:
    """Topics and brokers.

    Attributes:
        topics: those that were asked for and are there, by name.
        other_topics: names of the others, without Kafka's own.
        brokers: all settings of each broker, by its id.
    """

    topics: Mapping[str, FoundTopic]
    other_topics: tuple[str, ...]
    brokers: Mapping[int, Mapping[str, str]]


def describe_cluster(bootstrap_servers: str, topics: Iterable[str]) -> ClusterState:
    """Return what the brokers have, and of these topics those that are there.

    Raises:
        PrerequisiteError: the broker cannot be reached.
        KafkaRefusedError: the broker reports another error, for instance that this user may not look.
    """
    admin, wanted = admin_client(bootstrap_servers), set(topics)

    def ask(timeout_s: float) -> ClusterState:
        # The metadata, too: a broker that has left is no longer asked for its settings.
        return _describe(admin, cluster_metadata(admin, bootstrap_servers), wanted, timeout_s)

    return retried("its settings", bootstrap_servers, ask, topics_exist=True)


def _describe(admin: AdminClient, metadata: ClusterMetadata, wanted: Set[str], timeout_s: float) -> ClusterState:
    found = {name: topic for name, topic in metadata.topics.items() if name in wanted}
    settings = _settings(admin, ResourceType.TOPIC, found, timeout_s)
    brokers = _settings(admin, ResourceType.BROKER, map(str, metadata.brokers), timeout_s)
    return ClusterState(
        topics={
            name: FoundTopic(
                name=name,
                partitions=len(topic.partitions),
                replication=min(len(partition.replicas) for partition in topic.partitions.values()),
                settings={entry: value for entry, (value, _) in settings[name].items()},
                own=frozenset(entry for entry, (_, is_own) in settings[name].items() if is_own),
            )
            for name, topic in sorted(found.items())
        },
        other_topics=tuple(
            sorted(name for name in metadata.topics.keys() - wanted if not name.startswith(_INTERNAL_PREFIX))
        ),
        brokers={
            int(broker): {entry: value for entry, (value, _) in of_broker.items()}
            for broker, of_broker in sorted(brokers.items())
        },
    )


def _settings(
    admin: AdminClient, kind: ResourceType, names: Iterable[str], timeout_s: float
) -> dict[str, dict[str, tuple[str, bool]]]:
    """Return, by resource and setting, the value, and whether it was set for this topic."""
    resources = [ConfigResource(kind, name) for name in names]
    # librdkafka takes any number of topics in a call, and one broker.
    calls = [resources] if kind is ResourceType.TOPIC else [[resource] for resource in resources]
    answers = [admin.describe_configs(call, request_timeout=timeout_s) for call in calls if call]
    return {
        resource.name: {
            # A secret has no value.
            entry.name: (entry.value or "", entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value)
            for entry in future.result().values()
        }
        for answer in answers
        for resource, future in answer.items()
    }
