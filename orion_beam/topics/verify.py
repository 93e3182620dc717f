"""What must hold between the settings of topics, whatever a catalogue says."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orion_beam.durations import format_duration
from orion_beam.topics.catalogue import FOREVER_MS, MIN_INSYNC, RETENTION, SIZE_LIMIT_SETTING
from orion_beam.topics.cluster_state import ClusterState, FoundTopic

RETENTION_BYTES = "retention.bytes"
CLEANUP_POLICY = "cleanup.policy"

LETTER_ROOM_BYTES = 65_536
"""What a dead letter may take besides its record: the reasons, as headers."""
LEAST_MESSAGE_BYTES = 1 << 20
"""What a topic of CDRs must take: a producer's batches are as large, and a message is never larger."""


@dataclass(frozen=True)
class Problem:
    """A topic that does not keep what it must.

    Attributes:
        topic: its name.
        what: a sentence for people.
    """

    topic: str
    what: str


def problems_of(
    cluster: ClusterState, raw_topics: Iterable[str], final_topic: str, dead_letter_topic: str, replay_window_ms: int
) -> list[Problem]:
    """Return where topics, as they are, contradict each other or what is asked of them. Missing topics are left out.

    Args:
        cluster: what there is.
        raw_topics: names of the raw topics.
        final_topic: name of the topic of final CDRs.
        dead_letter_topic: name of the topic of dead letters.
        replay_window_ms: how far back a replay must be able to reach; FOREVER_MS has no end.
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
