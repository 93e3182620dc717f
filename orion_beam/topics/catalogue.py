"""Topic catalogue: the topics and their settings, read from YAML files and checked.

`catalogue.yaml` in this folder has the names of topics, without the topic prefix; only the country profiles have names,
too, those of raw topics. The workspace's `topics.yaml` changes what it mentions.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from orion_beam.countries import profiles_of
from orion_beam.defaults import SHIPPED_CATALOGUE
from orion_beam.durations import parse_duration_s
from orion_beam.errors import UserError
from orion_beam.job_file.environment import topic_prefix
from orion_beam.job_file.read import find_job
from orion_beam.text_files.text_file import KeyPath, TextFile
from orion_beam.text_files.yaml_file import read_yaml

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

    partitions: int = Field(ge=1, le=2**31 - 1)
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
    jobs: NamedTopic

    @property
    def named(self) -> tuple[NamedTopic, ...]:
        """All topics but the raw ones."""
        return (
            self.validated,
            self.normalized,
            self.enriched,
            self.final,
            self.dead_letters,
            self.audit,
            self.jobs,
        )


class BrokerProfile(_Model):
    """Replication and settings for a size of cluster, such as development or production.

    Attributes:
        replication: Number of brokers that keep each partition.
        topic_settings: Kafka's settings of every topic.
        broker_settings: Kafka's settings of every broker.
    """

    replication: int = Field(ge=1, le=2**15 - 1)
    topic_settings: Settings
    broker_settings: Settings = {}

    @model_validator(mode="after")
    def _can_be_written_to(self) -> Self:
        needed = self.topic_settings.get(MIN_INSYNC, "1")
        if not re.fullmatch("[0-9]{1,5}", needed) or not 1 <= int(needed) <= self.replication:
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

    def behind(self, prefix: str) -> Self:
        """Return the catalogue with a prefix before the name of each topic."""

        def renamed(topic: NamedTopic) -> NamedTopic:
            return topic.model_copy(update={"name": f"{prefix}{topic.name}"})

        named = {name: renamed(topic) for name, topic in self.topics if isinstance(topic, NamedTopic)}
        topics, others = self.topics.model_copy(update=named), tuple(map(renamed, self.others))
        return self.model_copy(update={"topics": topics, "others": others})

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
            UserError: There is no such country or profile, or a country's raw topic has the name of another topic.
        """
        profile = self.profile(profile_name)
        named = (*self.topics.named, *self.others)
        raw = [self.raw_topic(country) for country in countries]
        if taken := {topic.name for topic in raw} & {topic.name for topic in named}:
            raise UserError(f"the topic catalogue: {min(taken)} is a country's raw topic: choose another name")
        kinds = (*raw, *named)
        return tuple(
            Topic(
                kind.name,
                kind.partitions,
                profile.replication,
                {RETENTION: str(kind.retention_ms), **profile.topic_settings, **kind.settings},
            )
            for kind in kinds
        )


def load_catalogue(path: Path | None = None, prefix: str | None = None) -> Catalogue:
    """Return the topics of this environment: the shipped ones, with the changes of a file, behind the topic prefix.

    The workspace's job file may name the topics of CDRs and dead letters, too; its names come first.

    A file need not be whole: a mapping is merged into the shipped one, any other value replaces the shipped value, and
    null takes it away.

    Args:
        path: File with changes; by default the workspace's `topics.yaml`, if there is one.
        prefix: Prefix of the names; by default that of this environment.

    Raises:
        UserError: The file cannot be read, is not YAML, or a field breaks its rule; names the file, line and field.
    """
    names: tuple[tuple[str, str], ...] = ()
    if (job := find_job()) is not None:
        given = job.settings.topics.model_dump(include={"final", "dead_letters"}, exclude_none=True)
        names = tuple(given.items())
        path = job.workspace.topics if path is None and job.workspace.topics.exists() else path
    changed_ns = path.stat().st_mtime_ns if path is not None and path.exists() else 0
    return _loaded(path, changed_ns, names).behind(topic_prefix() if prefix is None else prefix)


def name_place(field: str) -> str | None:
    """Return `file:line` where the workspace's `topics.yaml` names a topic; None if it does not.

    Args:
        field: The topic's field of `OwnTopics`.

    Raises:
        UserError: The file cannot be read, or is not YAML.
    """
    if (job := find_job()) is None or not job.workspace.topics.exists():
        return None
    source, where = read_yaml(job.workspace.topics), ("topics", field, "name")
    return source.place(where) if where in source.lines else None


@cache
def _loaded(path: Path | None, _changed_ns: int, names: tuple[tuple[str, str], ...]) -> Catalogue:
    source = read_yaml(SHIPPED_CATALOGUE)
    found = source.data
    if path is not None:
        source = read_yaml(path)
        found = found if source.data is None else _merged(found, source.data, source)
    if not names or (job := find_job()) is None:
        return source.checked(Catalogue, found)
    merged = found
    for field, name in names:
        merged = _merged(merged, {"topics": {field: {"name": name}}}, job.source)
    try:
        return source.checked(Catalogue, merged)
    except UserError as error:
        # Whose fault is it? Without the names of the job file, the catalogue speaks for itself.
        source.checked(Catalogue, found)
        raise job.source.error(("topics",), str(error).partition(": ")[2]) from None


def _merged(before: Mapping[str, Any], changes: object, source: TextFile, where: KeyPath = ()) -> dict[str, Any]:
    if not isinstance(changes, Mapping):
        raise source.error(where, "expected keys and values")
    merged = {**before}
    for name, value in changes.items():
        is_merged = isinstance(before.get(name), Mapping) and value is not None
        merged[name] = _merged(before[name], value, source, (*where, name)) if is_merged else value
    return {name: value for name, value in merged.items() if value is not None}
