"""Checks of whether Kafka is ready for a job: brokers, topics, rights, settings, lost records and clocks."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    OffsetSpec,
    TopicDescription,
)

from orion_beam.access.rights import fix_of, lacking, words_of
from orion_beam.access.roles import Resource, rights_of
from orion_beam.defaults import Role
from orion_beam.doctor.findings import Check, failed, ok, refused, skipped, warning
from orion_beam.durations import format_duration
from orion_beam.errors import UserError
from orion_beam.kafka.admin import admin_client, at_controller, require_topics
from orion_beam.kafka.lease import Lease, lease_group
from orion_beam.kafka.offset_ranges import (
    OffsetRange,
    SourcePartition,
    group_offsets,
    list_offsets,
    offset_ranges,
    read_ranges,
)
from orion_beam.kafka.reach import unreached_brokers
from orion_beam.kafka.retry import KafkaRefusedError, retried
from orion_beam.schema_tools.kept_schemas import kept_schemas
from orion_beam.topics.cluster_state import describe_cluster
from orion_beam.topics.names import stage_topics
from orion_beam.topics.verify import problems_of
from orion_beam.transforms.stage.versions import OtherVersionError, refuse_other_versions

CLOCK_TOLERANCE_S = 5.0
"""Most tolerated difference of clocks; clocks kept by NTP differ by far less."""

_SHOWN = 3


@dataclass(frozen=True)
class KafkaNeeds:
    """What a job needs of Kafka.

    Attributes:
        bootstrap_servers: The brokers.
        group_id: Consumer group whose offsets say where the job goes on.
        sources: Topics that the job reads.
        sinks: Topics that the job writes.
        final: Topic of final CDRs, one of `sinks`.
        dead_letters: Topic of dead letters, one of `sinks`.
    """

    bootstrap_servers: str
    group_id: str
    sources: tuple[str, ...]
    sinks: tuple[str, ...]
    final: str
    dead_letters: str

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics that the job reads or writes."""
        return (*self.sources, *self.sinks)


def start_checks(needs: KafkaNeeds) -> Iterator[Check]:
    """Check what every job needs to start, within a second.

    These are the topics, the rights to read and write them and to commit, and, on stage topics, that no
    record's version is unknown.
    """
    try:
        require_topics(needs.bootstrap_servers, needs.topics)
        yield ok("topics", f"all {len(needs.topics)} are there")
    except UserError as error:
        yield refused("topics", error)
    yield from _guarded("rights", lambda: _check_rights(needs))
    # A client whose group's coordinator refuses it asks again for a minute, so this is asked first.
    group = {Resource.GROUP: (needs.group_id,)}
    yield from _guarded("group rights", lambda: _check_group_rights(needs, "group rights", group))
    if any(topic in stage_topics().values() for topic in needs.sources):
        yield from _guarded("stage records", lambda: _check_versions(needs))


def loss_checks(needs: KafkaNeeds) -> Iterator[Check]:
    """Check whether retention, or deletion of the topic, removed records that the group has not read yet."""
    yield from _guarded("unread records", lambda: _check_unread(needs))


def group_checks(needs: KafkaNeeds) -> Iterator[Check]:
    """Check whether this user may look for other jobs of the group, and whether one is alive."""
    lease = {Resource.LEASE: (lease_group(needs.group_id),)}
    yield from _guarded("lease rights", lambda: _check_group_rights(needs, "lease rights", lease))
    yield from _guarded("other jobs", lambda: _check_holders(needs))


def other_checks(needs: KafkaNeeds, replay_window_ms: int) -> Iterator[Check]:
    """Check what a job does not need to start but will miss later: all brokers, the topics' settings, clocks."""
    yield from _guarded("brokers", lambda: _check_brokers(needs))
    yield from _guarded("topic settings", lambda: _check_settings(needs, replay_window_ms))
    yield from _guarded("timestamps", lambda: _check_timestamps(needs))


def _guarded(name: str, check: Callable[[], Check]) -> Iterator[Check]:
    try:
        yield check()
    except KafkaRefusedError as error:
        yield skipped(name, f"cannot be checked: {error.error.str()}")
    except UserError as error:
        yield refused(name, error)


def _check_rights(needs: KafkaNeeds) -> Check:
    """Ask the broker what this user may do to the topics."""
    names = {Resource.SOURCES: needs.sources, Resource.FINAL: needs.sinks}
    lacks = lacking(needs.bootstrap_servers, rights_of(Role.STREAM, names))
    if lacks is None:
        return skipped("rights", "this broker does not tell what a user may do")
    if lacks:
        return failed("rights", f"this user may not {words_of(lacks)}", fix_of(Role.STREAM))
    return ok("rights", "this user may read what the job reads, and write what it writes")


def _check_group_rights(needs: KafkaNeeds, name: str, groups: Mapping[Resource, tuple[str, ...]]) -> Check:
    if lacks := lacking(needs.bootstrap_servers, rights_of(Role.STREAM, groups)):
        return failed(name, f"this user may not {words_of(lacks)}", fix_of(Role.STREAM))
    return ok(name, f"this user may read as {' and '.join(*groups.values())}")


def _check_holders(needs: KafkaNeeds) -> Check:
    for holder in Lease(needs.bootstrap_servers, needs.group_id).holders():
        if holder.topic in needs.sources:
            return warning("other jobs", f"{holder} of group {needs.group_id}", "stop it before this one starts")
    return ok("other jobs", f"none of group {needs.group_id} is alive")


def _check_unread(needs: KafkaNeeds) -> Check:
    held = offset_ranges(needs.bootstrap_servers, needs.sources)
    committed = group_offsets(needs.bootstrap_servers, needs.group_id, list(held))
    if not committed:
        return ok("unread records", f"group {needs.group_id} has read nothing yet: it begins with the oldest records")
    lost = {part: held[part].low - offset for part, offset in committed.items() if offset < held[part].low}
    if lost:
        return failed(
            "unread records",
            f"{sum(lost.values()):,} offsets are gone that group {needs.group_id} has not read: {_named(lost, held)}",
            "the job goes on behind them; send these records again from their source, and raise retention.ms",
        )
    beyond = {part: offset - held[part].high for part, offset in committed.items() if offset > held[part].high}
    if beyond:
        return failed(
            "unread records",
            f"group {needs.group_id} has committed offsets beyond the end of {_named(beyond, held)}: the topic was made"
            " anew, and the job would read it from its beginning",
            "reset the group (kafka-consumer-groups --reset-offsets), or take another --group-id",
        )
    waiting = sum(within.high - committed.get(part, within.low) for part, within in held.items())
    return ok("unread records", f"{waiting:,} wait for group {needs.group_id}, none is gone")


def _check_versions(needs: KafkaNeeds) -> Check:
    """Check the first and the last unread record of each partition."""
    held = offset_ranges(needs.bootstrap_servers, needs.sources, committed_only=True)
    committed = group_offsets(needs.bootstrap_servers, needs.group_id, list(held))
    lows = {part: max(within.low, committed.get(part, within.low)) for part, within in held.items()}
    firsts = {part: OffsetRange(low, min(low + 1, held[part].high)) for part, low in lows.items()}
    lasts = {part: OffsetRange(max(low, held[part].high - 1), held[part].high) for part, low in lows.items()}
    kept = kept_schemas()
    try:
        for ends in (firsts, lasts):
            for batch in read_ranges(needs.bootstrap_servers, ends, committed_only=True):
                refuse_other_versions(batch, kept)
    except OtherVersionError as error:
        found, _, fix = str(error).partition("; ")
        return failed("stage records", found, fix)
    return ok("stage records", "the first and the last that wait are of this version, or of a known one")


def _named(counts: Mapping[SourcePartition, int], held: Mapping[SourcePartition, OffsetRange]) -> str:
    worst = sorted(counts, key=lambda part: -counts[part])
    lines = [f"{part} ({counts[part]:,}; it holds {held[part].low} to {held[part].high})" for part in worst[:_SHOWN]]
    return ", ".join(lines) + (", …" if len(worst) > _SHOWN else "")


def _check_brokers(needs: KafkaNeeds) -> Check:
    reach = unreached_brokers(needs.bootstrap_servers)
    if reach.unreached:
        return failed(
            "brokers",
            f"{len(reach.unreached)} of {reach.brokers} cannot be reached from here: {', '.join(reach.unreached)}",
            "start them, or mend advertised.listeners: clients are sent to these addresses",
        )
    admin = admin_client(needs.bootstrap_servers)

    def ask(timeout_s: float) -> list[str]:
        answers = at_controller(admin).describe_topics(TopicCollection(list(needs.topics)), request_timeout=timeout_s)
        return [part for topic, answer in answers.items() for part in _leaderless(topic, answer.result())]

    leaderless = retried("who leads the topics", needs.bootstrap_servers, ask)
    if leaderless:
        return failed("brokers", f"no leader: {', '.join(leaderless)}", "start the brokers that hold these partitions")
    return ok("brokers", f"{reach.brokers}, reached from here at their advertised addresses")


def _leaderless(topic: str, description: TopicDescription) -> list[str]:
    return [f"{topic}[{part.id}]" for part in description.partitions if part.leader is None or part.leader.id < 0]


def _check_settings(needs: KafkaNeeds, replay_window_ms: int) -> Check:
    cluster = describe_cluster(needs.bootstrap_servers, needs.topics)
    problems = problems_of(cluster, needs.sources, needs.final, needs.dead_letters, replay_window_ms)
    if problems:
        lines = "; ".join(f"{problem.topic} {problem.what}" for problem in problems)
        return failed("topic settings", lines, "`orion-beam topics plan` shows what mends it, `apply` does it")
    window = "forever" if replay_window_ms < 0 else format_duration(replay_window_ms / 1_000)
    return ok("topic settings", f"durable, as many partitions as {needs.final}, kept for a replay of {window}")


def _check_timestamps(needs: KafkaNeeds) -> Check:
    """Compare the latest Kafka timestamp with this machine's clock.

    It shows a clock that is ahead: the producer's, or the broker's with LogAppendTime. A clock that is behind looks the
    same as a quiet topic.
    """
    parts = list(offset_ranges(needs.bootstrap_servers, needs.sources))
    spec = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
    found = list_offsets(admin_client(needs.bootstrap_servers), needs.bootstrap_servers, parts, spec)
    now_ms = time.time() * 1_000
    latest_ms = {part: of_it.timestamp for part, of_it in found.items()}
    where = max(latest_ms, key=lambda part: latest_ms[part])
    if latest_ms[where] < 0:
        return ok("timestamps", "no record yet, so no clock to compare")
    ahead_s = (latest_ms[where] - now_ms) / 1_000
    if ahead_s > CLOCK_TOLERANCE_S:
        return warning(
            "timestamps",
            f"{where} has a Kafka timestamp {format_duration(ahead_s)} ahead of this machine's clock",
            "set the clocks by NTP: this machine's and, unless the topic has LogAppendTime, the producer's",
        )
    return ok("timestamps", "none is ahead of this machine's clock (one that is behind cannot be seen)")
