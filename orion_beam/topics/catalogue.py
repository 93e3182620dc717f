"""Topic catalogue: the topics and their settings, read from a YAML file and checked.

`catalogue.yaml` in this folder is the default. It is the only place with the names of topics, with two exceptions: the
country profiles have the names of raw topics, and `orion_beam.defaults` repeats two names that options show.
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
"""Kafka's value for a retention without end."""


def _retention_ms(value: object) -> object:
    if value == "forever":
        return FOREVER_MS
    if not isinstance(value, str):
        raise ValueError("is a duration such as 12h or 7d, or forever")
    return 1_000 * parse_duration_s(value)


def _setting(value: object) -> object:
    """Convert a YAML value to Kafka's text for it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


TopicName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
Settings = Mapping[Annotated[str, Field(pattern=r"^[a-z0-9.]+$")], Annotated[str, BeforeValidator(_setting)]]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TopicKind(_Model):
    """Settings of a topic, without its name.

    Attributes:
        retention_ms: Retention in milliseconds; FOREVER_MS means no end.
        key: Description of the records' key, for people.
        settings: Kafka's settings; they override those of the profile.
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
    """Name and settings of a topic."""

    name: TopicName


class OwnTopics(_Model):
    """Topics that jobs and commands of ORION Beam use."""

    raw: TopicKind
    validated: NamedTopic
    normalized: NamedTopic
    enriched: NamedTopic
    final: NamedTopic
    dead_letters: NamedTopic
    audit: NamedTopic

    @property
    def named(self) -> tuple[NamedTopic, ...]:
        """All topics but the raw ones."""
        return (self.validated, self.normalized, self.enriched, self.final, self.dead_letters, self.audit)


class BrokerProfile(_Model):
    """Replication and settings for a size of cluster, such as development or production.

    Attributes:
        replication: Number of brokers that keep each partition.
        topic_settings: Kafka's settings of every topic.
        broker_settings: Kafka's settings of every broker.
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
    """Topic as the catalogue and a profile require it.

    Attributes:
        settings: Kafka's settings, by name.
    """

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str]


class Catalogue(_Model):
    """All topics, and the profiles by name."""

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
            UserError: There is no such profile; names the existing ones.
        """
        if name not in self.profiles:
            raise UserError(f"the topic catalogue has no profile {name!r}: it has {', '.join(self.profiles)}")
        return self.profiles[name]

    def raw_topic(self, country: str) -> NamedTopic:
        """Return the raw topic of a country, to which its operators send.

        Raises:
            UserError: The country has no profile.
        """
        kind = dict(self.topics.raw)  # checked already
        return NamedTopic.model_construct(name=profiles_of([country])[country].topic, **kind)

    def topics_of(self, countries: Iterable[str], profile_name: str) -> tuple[Topic, ...]:
        """Return every topic that jobs over `countries` read or write, with the settings of a profile.

        Raises:
            UserError: There is no such country or profile.
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
    """YAML loader for plain data that refuses repeated keys; other YAML loaders take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for name in names:
            if names.count(name) > 1:
                raise yaml.MarkedYAMLError("a mapping", node.start_mark, f"{name} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_catalogue(path: Path = SHIPPED_CATALOGUE) -> Catalogue:
    """Read and check a topic catalogue.

    Raises:
        UserError: The file cannot be read, is not YAML, or a field breaks its rule; names the file and the field.
    """
    try:
        return Catalogue.model_validate(yaml.load(path.read_text(encoding="utf-8"), _StrictLoader))
    except ValidationError as error:
        raise UserError(f"topic catalogue {path}: {first_problem(error)}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"topic catalogue {path}: {error}") from None
