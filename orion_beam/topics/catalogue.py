"""The topic catalogue: which topics there are and how they are kept, read from a YAML file and checked.

`catalogue.yaml` beside this file is what ORION Beam uses unless told otherwise. It is the one place where the topics'
names are written down, but for those of raw topics, which are in the countries' profiles, and two that options show,
which are in `orion_beam.defaults` as well.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from orion_beam.countries import profiles_of
from orion_beam.defaults import SHIPPED_CATALOGUE
from orion_beam.durations import parse_duration_s
from orion_beam.errors import UserError, first_problem

RETENTION = "retention.ms"
MIN_INSYNC = "min.insync.replicas"
SIZE_LIMIT_SETTING = "max.message.bytes"
FOREVER_MS = -1
"""How Kafka writes a retention without end."""


def _retention_ms(value: object) -> object:
    if value == "forever":
        return FOREVER_MS
    if not isinstance(value, str):
        raise ValueError("is a duration such as 12h or 7d, or forever")
    return 1_000 * parse_duration_s(value)


def _setting(value: object) -> object:
    """Return a value as Kafka writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


TopicName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
Settings = Mapping[Annotated[str, Field(pattern=r"^[a-z0-9.]+$")], Annotated[str, BeforeValidator(_setting)]]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TopicKind(_Model):
    """How topics are kept.

    Attributes:
        retention_ms: FOREVER_MS has no end.
        key: what its records are keyed by, for people.
        settings: Kafka's own, over those of the profile.
    """

    partitions: int = Field(ge=1)
    retention_ms: Annotated[int, BeforeValidator(_retention_ms)] = Field(alias="retention")
    key: str
    settings: Settings = {}

    @field_validator("settings")
    @classmethod
    def _retention_is_written_once(cls, settings: Settings) -> Settings:
        if RETENTION in settings:
            raise ValueError(f"{RETENTION} is written as `retention`")
        return settings


class NamedTopic(TopicKind):
    """A topic and how it is kept."""

    name: TopicName


class OwnTopics(_Model):
    """The topics that jobs and commands of ORION Beam use."""

    raw: TopicKind
    validated: NamedTopic
    normalized: NamedTopic
    enriched: NamedTopic
    final: NamedTopic
    dead_letters: NamedTopic
    audit: NamedTopic

    @property
    def named(self) -> tuple[NamedTopic, ...]:
        """All but the raw ones."""
        return (self.validated, self.normalized, self.enriched, self.final, self.dead_letters, self.audit)


class BrokerProfile(_Model):
    """How many brokers there are to count on.

    Attributes:
        replication: on how many of them each partition is kept.
        topic_settings: Kafka's own, of every topic.
        broker_settings: Kafka's own, of every broker.
    """

    replication: int = Field(ge=1, le=32_767)
    topic_settings: Settings
    broker_settings: Settings = {}

    @model_validator(mode="after")
    def _can_be_written_to(self) -> Self:
        needed = self.topic_settings.get(MIN_INSYNC, "1")
        if not needed.isascii() or not needed.isdigit() or not 1 <= int(needed) <= self.replication:
            raise ValueError(f"{MIN_INSYNC} is {needed}: with replication {self.replication} nothing could be written")
        return self


@dataclass(frozen=True)
class Topic:
    """A topic as it must be.

    Attributes:
        settings: Kafka's own, by name.
    """

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str]


class Catalogue(_Model):
    """All topics, and the profiles by which they are kept."""

    topics: OwnTopics
    others: tuple[NamedTopic, ...] = ()
    profiles: Mapping[str, BrokerProfile]

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        names = [topic.name for topic in (*self.topics.named, *self.others)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"topic {name} is there twice")
        return self

    def profile(self, name: str) -> BrokerProfile:
        """Return a profile.

        Raises:
            UserError: there is none of this name; names those there are.
        """
        if name not in self.profiles:
            raise UserError(f"the topic catalogue has no profile {name!r}: it has {', '.join(self.profiles)}")
        return self.profiles[name]

    def raw_topic(self, country: str) -> NamedTopic:
        """Return the topic to which a country's operators send.

        Raises:
            UserError: the country has no profile.
        """
        kind = dict(self.topics.raw)  # checked already
        return NamedTopic.model_construct(name=profiles_of([country])[country].topic, **kind)

    def topics_of(self, countries: Iterable[str], profile_name: str) -> tuple[Topic, ...]:
        """Return every topic that jobs over `countries` read or write, as a profile wants it.

        Raises:
            UserError: there is no such country or profile.
        """
        profile = self.profile(profile_name)
        kinds = (*map(self.raw_topic, countries), *self.topics.named, *self.others)
        return tuple(
            Topic(
                kind.name,
                kind.partitions,
                profile.replication,
                {RETENTION: str(kind.retention_ms), **profile.topic_settings, **kind.settings},
            )
            for kind in kinds
        )


class _StrictLoader(yaml.SafeLoader):
    """Reads data and nothing else, and refuses a name that is there twice: YAML's readers take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for name in names:
            if names.count(name) > 1:
                raise yaml.MarkedYAMLError("a mapping", node.start_mark, f"{name} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_catalogue(path: Path = SHIPPED_CATALOGUE) -> Catalogue:
    """Read and check a topic catalogue.

    Raises:
        UserError: the file cannot be read, is not YAML, or a field breaks its rule; names file and field.
    """
    try:
        return Catalogue.model_validate(yaml.load(path.read_text(encoding="utf-8"), _StrictLoader))
    except ValidationError as error:
        raise UserError(f"topic catalogue {path}: {first_problem(error)}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"topic catalogue {path}: {error}") from None
