"""What must hold between the settings of topics, whatever a catalogue says."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orion_beam.durations import format_duration
from orion_beam.kafka.catalogue import FOREVER_MS, MIN_INSYNC, RETENTION
from orion_beam.kafka.cluster import Cluster, FoundTopic

RETENTION_BYTES = "retention.bytes"


@dataclass(frozen=True)
class Problem:
    """A topic that does not keep what it must.

    Attributes:
        topic: its name.
        what: a sentence for people.
    """

    topic: str
    what: str


def problems_of(cluster: Cluster, raw_topics: Iterable[str], final_topic: str, replay_window_ms: int) -> list[Problem]:
    """Return where topics, as they are, contradict each other or what is asked of them. Missing topics are left out.

    Args:
        cluster: what there is.
        raw_topics: names of the raw topics.
        final_topic: name of the topic of final CDRs.
        replay_window_ms: how far back a replay must be able to reach; FOREVER_MS has no end.
    """
    problems = [
        problem
        for topic in cluster.topics.values()
        for problem in durability(topic.name, int(topic.settings[MIN_INSYNC]), topic.replication)
    ]
    raw = [cluster.topics[name] for name in raw_topics if name in cluster.topics]
    problems += [problem for topic in raw for problem in _retention(topic, replay_window_ms)]
    final = cluster.topics.get(final_topic)
    if final is not None:
        # A record's key is its IMSI on both: with equal counts a subscriber has one partition number throughout, and
        # as many consumers as read the raw topic can share the final one.
        problems += [
            Problem(topic.name, f"has {topic.partitions} partitions, and {final.name} has {final.partitions}")
            for topic in raw
            if topic.partitions != final.partitions
        ]
    return problems


def durability(topic: str, needed: int, replication: int) -> Iterator[Problem]:
    """Yield what is wrong with a topic of which each write needs `needed` of `replication` replicas."""
    if needed > replication:
        yield Problem(topic, f"{MIN_INSYNC} is {needed} with replication {replication}: nothing can be written")
    elif needed == replication > 1:
        yield Problem(topic, f"{MIN_INSYNC} and replication are both {needed}: one broker down, and writing stops")


def _retention(topic: FoundTopic, window_ms: int) -> Iterator[Problem]:
    kept_ms, kept_bytes = int(topic.settings[RETENTION]), int(topic.settings[RETENTION_BYTES])
    if kept_ms != FOREVER_MS and (window_ms == FOREVER_MS or kept_ms < window_ms):
        yield Problem(topic.name, f"keeps {_age(kept_ms)}, and a replay must reach back {_age(window_ms)}")
    if kept_bytes != FOREVER_MS:
        yield Problem(
            topic.name, f"{RETENTION_BYTES} is {kept_bytes}: records may be gone before {_age(kept_ms)} are over"
        )


def _age(milliseconds: int) -> str:
    return "forever" if milliseconds == FOREVER_MS else format_duration(milliseconds / 1_000)
