"""The topics of ORION Beam: their names, creating those that are missing, and requiring those that a job uses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AdminClient,
    ClusterMetadata,
)
from confluent_kafka.cimpl import NewTopic

from orion_beam.defaults import DEVELOPMENT, PRODUCTION
from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.kafka.catalogue import Catalogue, NamedTopic, Topic, load_catalogue
from orion_beam.kafka.login import login_settings
from schemas.codes import Stage

CATALOGUE: Catalogue = load_catalogue()
"""The one that comes with ORION Beam."""

VALIDATED = CATALOGUE.topics.validated
NORMALIZED = CATALOGUE.topics.normalized
ENRICHED = CATALOGUE.topics.enriched
FINAL = CATALOGUE.topics.final
DEAD_LETTERS = CATALOGUE.topics.dead_letters
AUDIT = CATALOGUE.topics.audit
PARTITIONS = FINAL.partitions

STAGE_TOPICS: Mapping[Stage, str] = {
    Stage.VALIDATE: VALIDATED.name,
    Stage.NORMALIZE: NORMALIZED.name,
    Stage.ENRICH: ENRICHED.name,
}
"""The topic that a stage's output may be published to, and a chain may start from."""

_REFUSALS = {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}

TIMEOUT_S = 10
"""How long a broker may take to answer before it counts as unreachable."""


def raw_topic(country: str) -> NamedTopic:
    """Return the topic to which a country's operators send."""
    return CATALOGUE.raw_topic(country)


def profile_for(brokers: int) -> str:
    """Return the profile that a local cluster of so many brokers can keep."""
    return PRODUCTION if brokers >= CATALOGUE.profile(PRODUCTION).replication else DEVELOPMENT


def create_topics(bootstrap_servers: str, countries: Sequence[str], profile: str = DEVELOPMENT) -> list[str]:
    """Create the topics of the catalogue that are missing. Topics that exist are left as they are.

    Returns:
        The names of those that were created.

    Raises:
        PrerequisiteError: the broker cannot be reached.
        UserError: the broker refuses, for instance because it has too few nodes for the profile.
    """
    wanted = CATALOGUE.topics_of(countries, profile)
    existing = topic_names(bootstrap_servers)
    return create(bootstrap_servers, [topic for topic in wanted if topic.name not in existing])


def create(bootstrap_servers: str, topics: Sequence[Topic]) -> list[str]:
    """Create topics. One that has come into being meanwhile is left as it is.

    Returns:
        The names of those that were created.

    Raises:
        UserError: the broker refuses.
    """
    if not topics:
        return []
    requests = [
        NewTopic(topic.name, topic.partitions, topic.replication, config=dict(topic.settings)) for topic in topics
    ]
    created = []
    admin = admin_client(bootstrap_servers)  # its answers end with it
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
    missing = sorted(set(topics) - topic_names(bootstrap_servers))
    if missing:
        raise PrerequisiteError(
            f"Kafka at {bootstrap_servers} has no topic {', '.join(missing)}: create it with"
            " `orion-beam topics apply`, for development with `orion-beam local up`"
        )


class QuietAdminClient(AdminClient):
    """A client that looks again soon, and leaves it to the caller to say that a broker is not there, and why."""

    def __init__(self, bootstrap_servers: str) -> None:
        """Log in, if there is a login."""
        self._errors: list[KafkaError] = []
        settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap_servers,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
            "error_cb": self._errors.append,
        }
        super().__init__(login_settings() | settings)

    @property
    def refusal(self) -> str:
        """Why the last connection failed, if that is a matter of how this client has come in."""
        self.poll(0)
        texts = [error.str() for error in self._errors if error.code() in _REFUSALS]
        return texts[-1] if texts else ""


def admin_client(bootstrap_servers: str) -> QuietAdminClient:
    """Return a client for questions and changes."""
    return QuietAdminClient(bootstrap_servers)


def topic_names(bootstrap_servers: str) -> set[str]:
    """Return the names of all topics that there are.

    Raises:
        PrerequisiteError: the broker cannot be reached.
    """
    return set(cluster_metadata(admin_client(bootstrap_servers), bootstrap_servers).topics)


def cluster_metadata(admin: QuietAdminClient, bootstrap_servers: str) -> ClusterMetadata:
    """Return brokers and topics.

    Raises:
        PrerequisiteError: the broker cannot be reached, or lets nobody in who comes so.
    """
    try:
        return admin.list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        if refusal := admin.refusal:
            raise PrerequisiteError(
                f"Kafka at {bootstrap_servers} does not let this client in ({refusal}):"
                f" say how to log in, as `orion-beam --kafka-config FILE` or in {CONFIG_VARIABLE}"
            ) from None
        raise PrerequisiteError(
            f"Kafka at {bootstrap_servers} does not answer ({error.args[0].str()}):"
            " check the address, log in by --kafka-config if it wants that, or start one with `orion-beam local up`"
        ) from None
