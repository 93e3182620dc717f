"""Rules for the settings of topics that hold whatever a catalogue says."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orion_beam.durations import format_duration
from orion_beam.topics.catalogue import FOREVER_MS, MIN_INSYNC, RETENTION, SIZE_LIMIT_SETTING
from orion_beam.topics.cluster_state import ClusterState, FoundTopic

RETENTION_BYTES = "retention.bytes"
CLEANUP_POLICY = "cleanup.policy"

LETTER_ROOM_BYTES = 65_536
"""Bytes that a dead letter may have besides its record: the reasons, as headers."""
LEAST_MESSAGE_BYTES = 1 << 20
"""Least `max.message.bytes` of a topic of CDRs: a producer's batches have this size, and no message is larger."""


@dataclass(frozen=True)
class Problem:
    """Topic that breaks a rule.

    Attributes:
        topic: Name of the topic.
        what: Description of the problem for people.
    """

    topic: str
    what: str


def problems_of(
    cluster: ClusterState, raw_topics: Iterable[str], final_topic: str, dead_letter_topic: str, replay_window_ms: int
) -> list[Problem]:
    """Return the rules that the present topics break. Missing topics are skipped.

    Args:
        cluster: State of the cluster.
        raw_topics: Names of the raw topics.
        final_topic: Name of the topic of final CDRs.
        dead_letter_topic: Name of the topic of dead letters.
        replay_window_ms: Age in milliseconds that a replay must be able to reach back; FOREVER_MS means no limit.
    """
    problems = [
        problem
        for topic in cluster.topics.values()
        for problem in durability(topic.name, int(topic.settings[MIN_INSYNC]), topic.replication)
    ]
    raw = [cluster.topics[name] for name in raw_topics if name in cluster.topics]
    problems += [problem for topic in raw for problem in _retention(topic, replay_window_ms)]
    final, letters = cluster.topics.get(final_topic), cluster.topics.get(dead_letter_topic)
    for kept in (*raw, *filter(None, (final, letters))):
        problems += _compaction(kept)
    if letters is not None:
        problems += _room_for_letters(letters, raw)
    if final is not None:
        limit = int(final.settings[SIZE_LIMIT_SETTING])
        if limit < LEAST_MESSAGE_BYTES:
            what = f"{SIZE_LIMIT_SETTING} is {limit}: it must be {LEAST_MESSAGE_BYTES} at least, or batches are refused"
            problems.append(Problem(final.name, what))
        # A record's key is its IMSI on both topics. With equal counts a subscriber has the same partition number on
        # both, and the final topic can have as many consumers as the raw topic.
        problems += [
            Problem(topic.name, f"has {topic.partitions} partitions, and {final.name} has {final.partitions}")
            for topic in raw
            if topic.partitions != final.partitions
        ]
    return problems


def durability(topic: str, needed: int, replication: int) -> Iterator[Problem]:
    """Yield the problem of a topic if a write needs more than its replicas, or all of several."""
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


def _compaction(topic: FoundTopic) -> Iterator[Problem]:
    if "compact" in topic.settings[CLEANUP_POLICY]:
        yield Problem(topic.name, f"{CLEANUP_POLICY} has compact: of a key's records only the newest would stay")


def _room_for_letters(letters: FoundTopic, raw: Iterable[FoundTopic]) -> Iterator[Problem]:
    limit = int(letters.settings[SIZE_LIMIT_SETTING])
    for topic in raw:
        largest = int(topic.settings[SIZE_LIMIT_SETTING])
        if limit < largest + LETTER_ROOM_BYTES:
            yield Problem(
                letters.name,
                f"{SIZE_LIMIT_SETTING} is {limit}, and {topic.name} takes {largest}: dead letters of its largest"
                f" records go by reference, unless it is {largest + LETTER_ROOM_BYTES}",
            )


def _age(milliseconds: int) -> str:
    return "forever" if milliseconds == FOREVER_MS else format_duration(milliseconds / 1_000)
