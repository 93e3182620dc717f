"""The rights of each role on a Kafka cluster: the one table from which ACLs, `doctor` and the documentation follow.

Kafka's own rules keep the table short: READ, WRITE, ALTER and DELETE on something include DESCRIBE, ALTER_CONFIGS
includes DESCRIBE_CONFIGS, and WRITE on any topic is enough for an idempotent producer (brokers from 3.0 on).
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]  # re-exported implicitly

from orion_beam.countries import profiles_of
from orion_beam.defaults import Role
from orion_beam.job_file.environment import transactional_id
from orion_beam.kafka.lease import lease_group
from orion_beam.kafka.offset_ranges import READERS_GROUP
from orion_beam.schemas.codes import Stage
from orion_beam.topics.catalogue import load_catalogue
from orion_beam.topics.names import own_topics, stage_topics, topics_with_numbers

CLUSTER_NAME = "kafka-cluster"
"""Kafka's name of the one resource of its type."""


_KIND_NAMES = {ResourceType.BROKER: "cluster", ResourceType.TRANSACTIONAL_ID: "transactional id"}


class Resource(Enum):
    """What a right is on. The value is the kind of resource and a name for people."""

    RAW = ResourceType.TOPIC, "the raw topics"
    SOURCES = ResourceType.TOPIC, "the topics that the job reads: raw, or that of `start_from`"
    FINAL = ResourceType.TOPIC, "the topic of final CDRs"
    DEAD_LETTERS = ResourceType.TOPIC, "the topic of dead letters"
    PUBLISHED = ResourceType.TOPIC, "the topics of `publish`"
    JOURNAL = ResourceType.TOPIC, "the redrives' journal, `orion.audit`"
    HISTORY = ResourceType.TOPIC, "the history of jobs, `orion.jobs`"
    WITH_NUMBERS = (
        ResourceType.TOPIC,
        "the topics with subscribers' numbers: raw of every country, of stages, final CDRs, dead letters",
    )
    ALL_TOPICS = ResourceType.TOPIC, "every topic of the catalogue"
    GROUP = ResourceType.GROUP, "the job's consumer group"
    LEASE = ResourceType.GROUP, "the group's leases, `GROUP.lease`"
    READERS = ResourceType.GROUP, f"the group `{READERS_GROUP}`, in which no offset is ever committed"
    REDRIVE = ResourceType.TRANSACTIONAL_ID, "the redrives' transactional id, `orion-redrive`"
    CLUSTER = ResourceType.BROKER, "the cluster"

    @property
    def kind(self) -> ResourceType:
        """Kafka's type of the resources."""
        return self.value[0]

    @property
    def words(self) -> str:
        """The name for people."""
        return self.value[1]


class Need(NamedTuple):
    """One right of a role.

    Attributes:
        operation: Kafka's operation.
        place: What it is on.
        purpose: What it is for.
    """

    operation: AclOperation
    place: Resource
    purpose: str


class Right(NamedTuple):
    """An operation on one resource."""

    kind: ResourceType
    name: str
    operation: AclOperation

    def __str__(self) -> str:
        """Return a description for people, such as `READ topic cdr.final`."""
        return f"{self.operation.name} {kind_name(self.kind)} {self.name}"


def kind_name(kind: ResourceType) -> str:
    """Return the name of a kind of resource for people: topic, group, transactional id or cluster."""
    return _KIND_NAMES.get(kind, kind.name.lower())


class RoleRights(NamedTuple):
    """Rights of a role.

    Attributes:
        commands: The commands that work with them.
        needs: The rights.
    """

    commands: str
    needs: tuple[Need, ...]


_READ, _WRITE, _DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE
_DESCRIBE_CONFIGS = AclOperation.DESCRIBE_CONFIGS


_LOOK_UP = Need(_DESCRIBE, Resource.READERS, "be a consumer of librdkafka, which asks for its group's coordinator")

ROLES: Mapping[Role, RoleRights] = {
    Role.STREAM: RoleRights(
        "`run`, the workers of a job, `doctor`",
        (
            Need(_READ, Resource.SOURCES, "read records"),
            Need(_WRITE, Resource.FINAL, "write CDRs"),
            Need(_WRITE, Resource.DEAD_LETTERS, "write rejects"),
            Need(_WRITE, Resource.PUBLISHED, "write the output of stages"),
            Need(_READ, Resource.GROUP, "commit offsets, and go on from them"),
            Need(_READ, Resource.LEASE, "keep a second job from reading the same records"),
        ),
    ),
    Role.JOBS: RoleRights(
        "`submit`, `jobs`; who submits has the role stream as well, as the job logs in as that user",
        (
            Need(_READ, Resource.HISTORY, "know what happened to jobs"),
            Need(_WRITE, Resource.HISTORY, "note what is done to a job"),
            _LOOK_UP,
        ),
    ),
    Role.REPLAY: RoleRights(
        "`replay`",
        (
            Need(_READ, Resource.RAW, "read records again"),
            Need(_WRITE, Resource.FINAL, "write CDRs; not needed for files"),
            Need(_WRITE, Resource.DEAD_LETTERS, "write rejects; not needed for files"),
            _LOOK_UP,
        ),
    ),
    Role.DESK: RoleRights(
        "`dlq ls`, `show`, `stats`, `export`, `retest`, `redrive`",
        (
            Need(_READ, Resource.DEAD_LETTERS, "read letters"),
            Need(_READ, Resource.RAW, "follow letters by reference"),
            Need(_WRITE, Resource.RAW, "send records back"),
            Need(_DESCRIBE_CONFIGS, Resource.RAW, "know what their topic accepts"),
            Need(_READ, Resource.JOURNAL, "know what was sent"),
            Need(_WRITE, Resource.JOURNAL, "note what is sent, and who reveals numbers"),
            Need(_WRITE, Resource.REDRIVE, "send a record and its note in one transaction"),
            _LOOK_UP,
        ),
    ),
    Role.MONITOR: RoleRights(
        "`monitor`, `top`",
        (
            Need(_READ, Resource.SOURCES, "know how old the next record is"),
            Need(_DESCRIBE_CONFIGS, Resource.SOURCES, "know when unread records are deleted"),
            Need(_DESCRIBE, Resource.FINAL, "count what is written"),
            Need(_READ, Resource.DEAD_LETTERS, "count letters by code"),
            Need(_DESCRIBE, Resource.GROUP, "know what is committed"),
            Need(_DESCRIBE, Resource.LEASE, "count the jobs that are alive"),
        ),
    ),
    Role.AUDIT: RoleRights(
        "`audit`, `trace`, `capture`, `replay diff`",
        (
            Need(_READ, Resource.RAW, "know what came in"),
            Need(_READ, Resource.FINAL, "know what came out"),
            Need(_READ, Resource.DEAD_LETTERS, "know what was rejected"),
            _LOOK_UP,
        ),
    ),
    Role.PRIVACY: RoleRights(
        "`forget`",
        (
            Need(_READ, Resource.WITH_NUMBERS, "find subscribers"),
            Need(_DESCRIBE_CONFIGS, Resource.WITH_NUMBERS, "know when retention deletes records"),
            _LOOK_UP,
        ),
    ),
    Role.TOPICS: RoleRights(
        "`topics plan`, `apply`, `verify`",
        (
            Need(AclOperation.CREATE, Resource.ALL_TOPICS, "create topics"),
            Need(AclOperation.ALTER, Resource.ALL_TOPICS, "add partitions"),
            Need(AclOperation.ALTER_CONFIGS, Resource.ALL_TOPICS, "read and change settings of topics"),
            Need(_DESCRIBE_CONFIGS, Resource.CLUSTER, "read settings of brokers"),
        ),
    ),
}
"""Who applies ACLs has none of these roles: it takes ALTER and DESCRIBE on the cluster, or a super user."""


def rights_of(role: Role, names: Mapping[Resource, Iterable[str]]) -> list[Right]:
    """Return the rights of a role on resources.

    Args:
        role: The role.
        names: Names of the resources of each place.
    """
    return [
        Right(need.place.kind, name, need.operation) for need in ROLES[role].needs for name in names.get(need.place, ())
    ]


def resource_names(
    countries: Sequence[str], group_id: str, published: Iterable[Stage], start: Stage | None
) -> dict[Resource, tuple[str, ...]]:
    """Return the names of all resources of this environment.

    Raises:
        UserError: There is no such country, or the workspace's catalogue is invalid.
    """
    raw = tuple(profile.topic for profile in profiles_of(countries).values())
    own, of_stage = own_topics(), stage_topics()
    catalogue = load_catalogue()
    every = (*raw, *(topic.name for topic in (*catalogue.topics.named, *catalogue.others)))
    return {
        Resource.RAW: raw,
        Resource.SOURCES: raw if start is None else (of_stage[start],),
        Resource.FINAL: (own.final.name,),
        Resource.DEAD_LETTERS: (own.dead_letters.name,),
        Resource.PUBLISHED: tuple(of_stage[stage] for stage in published),
        Resource.JOURNAL: (own.audit.name,),
        Resource.HISTORY: (own.jobs.name,),
        Resource.WITH_NUMBERS: topics_with_numbers(),
        Resource.ALL_TOPICS: tuple(dict.fromkeys(every)),
        Resource.GROUP: (group_id,),
        Resource.LEASE: (lease_group(group_id),),
        Resource.READERS: (READERS_GROUP,),
        Resource.REDRIVE: (transactional_id(),),
        Resource.CLUSTER: (CLUSTER_NAME,),
    }
