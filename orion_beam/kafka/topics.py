"""The topics of ORION Beam as data; creating those that are missing, and requiring those that a job uses."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orion_beam.errors import PrerequisiteError, UserError

PARTITIONS = 12
DAY_MS = 24 * 60 * 60 * 1000
TIMEOUT_S = 10
"""How long a broker may take to answer before it counts as unreachable."""


class Profile(StrEnum):
    """How many brokers there are to count on."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


@dataclass(frozen=True)
class _Durability:
    replication: int
    min_insync_replicas: int


_DURABILITY = {
    Profile.DEVELOPMENT: _Durability(replication=1, min_insync_replicas=1),
    Profile.PRODUCTION: _Durability(replication=3, min_insync_replicas=2),
}


@dataclass(frozen=True)
class Topic:
    """A topic and how it is kept."""

    name: str
    retention_days: int
    partitions: int = PARTITIONS

    def settings(self, profile: Profile) -> dict[str, str]:
        """Return the topic's configuration as Kafka names it."""
        return {
            "retention.ms": str(self.retention_days * DAY_MS),
            "compression.type": "snappy",
            "min.insync.replicas": str(_DURABILITY[profile].min_insync_replicas),
            "unclean.leader.election.enable": "false",
        }

    def replication(self, profile: Profile) -> int:
        """Return on how many brokers each partition is kept."""
        return _DURABILITY[profile].replication


VALIDATED = Topic("cdr.validated", retention_days=3)
NORMALIZED = Topic("cdr.normalized", retention_days=3)
ENRICHED = Topic("cdr.enriched", retention_days=1)
FINAL = Topic("cdr.final", retention_days=1)
DEAD_LETTERS = Topic("cdr.dlq", retention_days=30)


def raw_topic(country: str) -> Topic:
    """Return the topic to which a country's operators send."""
    return Topic(f"cdr.raw.{country}", retention_days=7)


def catalogue(countries: Iterable[str]) -> tuple[Topic, ...]:
    """Return every topic that jobs over `countries` read or write."""
    return (*map(raw_topic, countries), VALIDATED, NORMALIZED, ENRICHED, FINAL, DEAD_LETTERS)


def create_topics(
    bootstrap_servers: str, countries: Sequence[str], profile: Profile | str = Profile.DEVELOPMENT
) -> list[str]:
    """Create the topics that are missing. Topics that exist are left as they are.

    Returns:
        The names of those that were created.

    Raises:
        PrerequisiteError: the broker cannot be reached.
        UserError: the broker refuses, for instance because it has too few nodes for the profile.
    """
    profile = Profile(profile)
    admin = admin_client(bootstrap_servers)
    existing = _topics(admin, bootstrap_servers)
    missing = [topic for topic in catalogue(countries) if topic.name not in existing]
    if not missing:
        return []
    requests = [
        NewTopic(topic.name, topic.partitions, topic.replication(profile), config=topic.settings(profile))
        for topic in missing
    ]
    created = []
    for name, future in admin.create_topics(requests, operation_timeout=TIMEOUT_S).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody else was faster: fine
                raise UserError(f"topic {name} cannot be created: {error.args[0].str()}") from None
    return created


def require_topics(bootstrap_servers: str, topics: Iterable[str]) -> None:
    """Check, before a job starts, that the broker answers and has these topics.

    Raises:
        PrerequisiteError: the broker cannot be reached within 10 s, or lacks a topic; names both and the fix.
    """
    existing = _topics(admin_client(bootstrap_servers), bootstrap_servers)
    missing = sorted(set(topics) - existing)
    if missing:
        raise PrerequisiteError(
            f"Kafka at {bootstrap_servers} has no topic {', '.join(missing)}: create it,"
            " for development with `orion-beam local up`"
        )


def admin_client(bootstrap_servers: str) -> AdminClient:
    """Return a client that looks again soon, and leaves it to the caller to say that a broker is not there."""
    return AdminClient(
        {"bootstrap.servers": bootstrap_servers, "reconnect.backoff.max.ms": 500, "log_level": 0},
    )


def _topics(admin: AdminClient, bootstrap_servers: str) -> set[str]:
    try:
        return set(admin.list_topics(timeout=TIMEOUT_S).topics)
    except KafkaException as error:
        raise PrerequisiteError(
            f"Kafka at {bootstrap_servers} does not answer ({error.args[0].str()}):"
            " check the address, or start one with `orion-beam local up`"
        ) from None
