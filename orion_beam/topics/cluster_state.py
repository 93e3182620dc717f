"""State of a Kafka cluster: its present topics and brokers with their settings."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    ConfigSource,
    ResourceType,
)

from orion_beam.kafka.admin import admin_client, cluster_metadata, require_sight
from orion_beam.kafka.retry import retried

_INTERNAL_PREFIX = "__"
"""Prefix of Kafka's own topics: offsets, transactions."""


@dataclass(frozen=True)
class FoundTopic:
    """Topic as the cluster has it.

    Attributes:
        replication: Number of brokers that keep the partition with the fewest replicas.
        settings: All of Kafka's settings, including defaults.
        own: Names of the settings that were set for this topic.
    """

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str]
    own: frozenset[str]


@dataclass(frozen=True)
class ClusterState:
    """Topics and brokers of a cluster.

    Attributes:
        topics: Requested topics that exist, by name.
        other_topics: Names of all other topics with the prefix, except Kafka's own.
        brokers: All settings of each broker, by its id; none if nobody asked for them.
    """

    topics: Mapping[str, FoundTopic]
    other_topics: tuple[str, ...]
    brokers: Mapping[int, Mapping[str, str]]


def describe_cluster(
    bootstrap_servers: str, topics: Iterable[str], prefix: str = "", *, with_brokers: bool = True
) -> ClusterState:
    """Return the state of the brokers, and of the given topics that exist.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        topics: Names of topics.
        prefix: Prefix of the other topics to name; those without it belong to other environments.
        with_brokers: Whether to ask for the brokers' settings, for which a user needs DESCRIBE_CONFIGS on the cluster.

    Raises:
        PrerequisiteError: The broker cannot be reached, or does not let this user see one of the topics.
        KafkaRefusedError: The broker reports another error, for instance that this user lacks the right.
    """
    admin, wanted = admin_client(bootstrap_servers), set(topics)
    require_sight(bootstrap_servers, wanted - cluster_metadata(admin, bootstrap_servers).topics.keys())

    def ask(timeout_s: float) -> ClusterState:
        # Each attempt gets new metadata, so that it does not ask a broker that has left for its settings.
        metadata = cluster_metadata(admin, bootstrap_servers)
        brokers = map(str, metadata.brokers if with_brokers else ())
        return _describe(admin, metadata, wanted, prefix, brokers, timeout_s)

    of_brokers = "its brokers (kafka-cluster) and of " if with_brokers else ""
    what = f"the settings of {of_brokers}{', '.join(sorted(wanted))}"
    return retried(what, bootstrap_servers, ask, topics_exist=True)


def _describe(
    admin: AdminClient,
    metadata: ClusterMetadata,
    wanted: Set[str],
    prefix: str,
    broker_ids: Iterable[str],
    timeout_s: float,
) -> ClusterState:
    found = {name: topic for name, topic in metadata.topics.items() if name in wanted}
    settings = _settings(admin, ResourceType.TOPIC, found, timeout_s)
    brokers = _settings(admin, ResourceType.BROKER, broker_ids, timeout_s)
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
            sorted(
                name
                for name in metadata.topics.keys() - wanted
                if name.startswith(prefix) and not name.startswith(_INTERNAL_PREFIX)
            )
        ),
        brokers={
            int(broker): {entry: value for entry, (value, _) in of_broker.items()}
            for broker, of_broker in sorted(brokers.items())
        },
    )


def _settings(
    admin: AdminClient, kind: ResourceType, names: Iterable[str], timeout_s: float
) -> dict[str, dict[str, tuple[str, bool]]]:
    """Return the value of each setting, and whether it was set for this topic, by resource and setting."""
    resources = [ConfigResource(kind, name) for name in names]
    # librdkafka takes any number of topics per call, but only one broker.
    calls = [resources] if kind is ResourceType.TOPIC else [[resource] for resource in resources]
    answers = [admin.describe_configs(call, request_timeout=timeout_s) for call in calls if call]
    return {
        resource.name: {
            # The broker sends no value for a secret.
            entry.name: (entry.value or "", entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value)
            for entry in future.result().values()
        }
        for answer in answers
        for resource, future in answer.items()
    }
