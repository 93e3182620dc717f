"""Plan: the differences between a cluster and the topic catalogue, and the changes that remove them.

`cli.topics` prints a plan.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from orion_beam.durations import format_duration
from orion_beam.errors import UserError
from orion_beam.job_file.environment import topic_prefix
from orion_beam.kafka.offset_ranges import offset_ranges, offsets_at
from orion_beam.topics.catalogue import FOREVER_MS, MIN_INSYNC, Catalogue, Topic
from orion_beam.topics.cluster_state import ClusterState, FoundTopic, describe_cluster
from orion_beam.topics.verify import Problem, durability

PARTITIONS_SETTING = "partitions"
REPLICATION = "replication"
"""Properties of a topic that are not settings of Kafka."""


class ChangeKind(StrEnum):
    """Kind of change that removes a difference."""

    CHANGE = "change"
    DANGEROUS = "dangerous"
    BY_HAND = "by hand"


@dataclass(frozen=True)
class TopicChange:
    """Difference of an existing topic or broker from the catalogue.

    Attributes:
        kind: Kind of the change.
        where: Name of the topic, or the broker, as `broker 1`.
        setting: Kafka's name of the setting, or PARTITIONS_SETTING, or REPLICATION.
        before: Present value.
        after: Value in the catalogue.
        reason: Reason why the change is dangerous, or what to do by hand; else empty.
    """

    kind: ChangeKind
    where: str
    setting: str
    before: str
    after: str
    reason: str = ""


@dataclass(frozen=True)
class Unmanaged:
    """Setting that was set for a topic of the catalogue, but that the catalogue does not mention."""

    topic: str
    setting: str
    value: str


@dataclass(frozen=True)
class Plan:
    """Changes that make a cluster agree with the catalogue.

    Attributes:
        creates: Topics to create.
        changes: All other changes.
        other_topics: Topics with this environment's prefix that the catalogue does not have; they are never changed.
        unmanaged: Settings that the catalogue does not mention; they are never changed.
        warnings: Topics that, after the changes, could not be written to, or not while a broker is down.
    """

    creates: tuple[Topic, ...]
    changes: tuple[TopicChange, ...]
    other_topics: tuple[str, ...]
    unmanaged: tuple[Unmanaged, ...]
    warnings: tuple[Problem, ...] = ()

    def of(self, kind: ChangeKind) -> tuple[TopicChange, ...]:
        """Return the changes of a kind."""
        return tuple(change for change in self.changes if change.kind is kind)

    @property
    def is_empty(self) -> bool:
        """Whether the cluster agrees with the catalogue."""
        return not self.creates and not self.changes


class Contents(Protocol):
    """Record counts of topics, for changes that may delete records."""

    def records(self, topic: str) -> int:
        """Return the number of records in a topic."""

    def records_older_than(self, topic: str, age_ms: int) -> int:
        """Return the number of records in a topic that are older than `age_ms` milliseconds."""


@dataclass(frozen=True)
class KafkaContents:
    """Record counts of a cluster's topics, which it asks for when a method is called."""

    bootstrap_servers: str

    def records(self, topic: str) -> int:
        """Return the number of offsets in a topic."""
        return sum(held.offsets for held in offset_ranges(self.bootstrap_servers, [topic]).values())

    def records_older_than(self, topic: str, age_ms: int) -> int:
        """Return the number of offsets before the first record that is younger than `age_ms` milliseconds."""
        held = offset_ranges(self.bootstrap_servers, [topic])
        since = datetime.now(UTC) - timedelta(milliseconds=age_ms)
        first = offsets_at(self.bootstrap_servers, held, since)
        return sum(first[part] - within.low for part, within in held.items())


def plan_topics(bootstrap_servers: str, catalogue: Catalogue, countries: Iterable[str], profile: str) -> Plan:
    """Compare a cluster with the catalogue, without changing it.

    Raises:
        PrerequisiteError: The broker cannot be reached.
        UserError: There is no such profile or country, Kafka has no such setting, or the broker reports another error.
    """
    wanted = catalogue.topics_of(countries, profile)
    cluster = describe_cluster(bootstrap_servers, [topic.name for topic in wanted], topic_prefix())
    return compare(wanted, catalogue.profile(profile).broker_settings, cluster, KafkaContents(bootstrap_servers))


def compare(
    wanted: Iterable[Topic], broker_settings: Mapping[str, str], cluster: ClusterState, contents: Contents
) -> Plan:
    """Return the plan that makes `cluster` agree with `wanted` and `broker_settings`.

    Raises:
        UserError: Kafka has no such setting; names the setting.
    """
    wanted = tuple(wanted)
    creates: list[Topic] = []
    changes: list[TopicChange] = []
    unmanaged: list[Unmanaged] = []
    for topic in wanted:
        found = cluster.topics.get(topic.name)
        if found is not None:
            changes += _topic_changes(topic, found, contents)
            own = sorted(found.own - topic.settings.keys())
            unmanaged += [Unmanaged(topic.name, setting, found.settings[setting]) for setting in own]
        elif topic.replication > len(cluster.brokers):
            changes.append(_too_few_brokers(topic, len(cluster.brokers)))
        else:
            creates.append(topic)
    for broker, settings in cluster.brokers.items():
        changes += _broker_changes(f"broker {broker}", broker_settings, settings)
    warnings = tuple(problem for topic in wanted for problem in _warnings(topic, cluster))
    return Plan(tuple(creates), tuple(changes), cluster.other_topics, tuple(unmanaged), warnings)


def _warnings(topic: Topic, cluster: ClusterState) -> Iterator[Problem]:
    """Compare the replicas of a topic, which a plan never changes, with those that each write will need."""
    found = cluster.topics.get(topic.name)
    defaults = next(iter(cluster.brokers.values()), {}) if found is None else found.settings
    needed = topic.settings.get(MIN_INSYNC, defaults.get(MIN_INSYNC, "1"))
    # Kafka itself refuses a value that is not a number.
    if needed.isascii() and needed.isdigit():
        yield from durability(topic.name, int(needed), topic.replication if found is None else found.replication)


def _too_few_brokers(topic: Topic, brokers: int) -> TopicChange:
    reason = "cannot be created: each replica needs a broker of its own"
    return TopicChange(
        ChangeKind.BY_HAND, topic.name, REPLICATION, f"{brokers} broker(s)", str(topic.replication), reason
    )


def _broker_changes(where: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[TopicChange]:
    for setting, before, after in _differences(where, wanted, found):
        yield TopicChange(
            ChangeKind.BY_HAND, where, setting, before, after, "set it in the broker's properties and restart it"
        )


def _topic_changes(wanted: Topic, found: FoundTopic, contents: Contents) -> Iterator[TopicChange]:
    name = wanted.name
    if wanted.partitions > found.partitions:
        reason = (
            "keys move to other partitions: the order of each IMSI's records breaks here, and in what is read from it;"
            " a job that reads this topic reads the new ones within a minute, from their beginning"
        )
        yield TopicChange(
            ChangeKind.DANGEROUS, name, PARTITIONS_SETTING, str(found.partitions), str(wanted.partitions), reason
        )
    elif wanted.partitions < found.partitions:
        reason = "Kafka takes no partitions away: make a new topic, and replay into it"
        yield TopicChange(
            ChangeKind.BY_HAND, name, PARTITIONS_SETTING, str(found.partitions), str(wanted.partitions), reason
        )
    if wanted.replication != found.replication:
        reason = "replicas are moved with kafka-reassign-partitions.sh"
        yield TopicChange(
            ChangeKind.BY_HAND, name, REPLICATION, str(found.replication), str(wanted.replication), reason
        )
    for setting, before, after in _differences(name, wanted.settings, found.settings):
        reason = _danger(found, setting, before, after, contents)
        yield TopicChange(ChangeKind.DANGEROUS if reason else ChangeKind.CHANGE, name, setting, before, after, reason)


def _differences(where: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for setting, after in wanted.items():
        if setting not in found:
            raise UserError(f"topic catalogue: {where}: Kafka has no setting {setting}")
        if found[setting] != after:
            yield setting, found[setting], after


def _danger(found: FoundTopic, setting: str, before: str, after: str, contents: Contents) -> str:
    """Return the danger of changing a setting, as a text for people; it is empty if the change is harmless."""
    match setting:
        case "retention.ms" if _is_lower(before, after) and "delete" in found.settings["cleanup.policy"]:
            older = contents.records_older_than(found.name, int(after))
            return (
                f"deletes {older:,} records that are older than {format_duration(int(after) / 1_000)}" if older else ""
            )
        case "max.message.bytes" if int(after) < int(before):
            return "larger records are refused from then on"
        case "retention.bytes" if _is_lower(before, after):
            return "deletes the oldest records beyond this size" if contents.records(found.name) else ""
        case "cleanup.policy":
            effect = "all but the newest record of each key" if "compact" in after else "records beyond the retention"
            return f"deletes {effect}" if contents.records(found.name) else ""
        case "min.insync.replicas" if int(after) < int(before):
            return "acknowledged records are on fewer brokers, and are lost with them"
        case "unclean.leader.election.enable" if after == "true":
            return "a broker that lags behind may become leader, and acknowledged records are lost then"
    return ""


def _is_lower(before: str, after: str) -> bool:
    """Return whether a limit becomes lower; FOREVER_MS means no limit."""
    return int(after) != FOREVER_MS and (int(before) == FOREVER_MS or int(after) < int(before))
