"""The offset plan of a replay: resolved before anything is read, plain data, the same for every runner."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate, groupby, zip_longest
from operator import attrgetter

import numpy as np
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from orion_beam.config import Slice
from orion_beam.errors import UserError
from orion_beam.kafka.offset_ranges import (
    OffsetRange,
    SourcePartition,
    early_end,
    ends_ahead_of_now,
    offset_ranges,
    offsets_between,
    read_ranges,
)

MAX_CHUNK_OFFSETS = 500_000
"""Offsets of a chunk at most: what is done again after a crash, and what a chunk's dead letters may take of memory."""
_LEAST_CHUNK_OFFSETS = 20_000
_CHUNKS_A_WORKER = 4
"""At least as many, so that workers end at about the same time."""
_SAMPLED_OFFSETS = 200
"""Of each partition, for the first timestamp and the size of records."""


class PartitionPlan(BaseModel):
    """What is to be read of one partition.

    Attributes:
        low, high: the offsets, from `low` to `high` - 1.
        held_low, held_high: what the partition holds at all.
        gone: offsets that were asked for and are deleted. None: there may be some, asked for by time, which nobody
            knows once they are deleted.
        first_at: the Kafka timestamp of the first record that is left to read.
        bytes_estimated: keys and values, by a sample.
        ends_at: the Kafka timestamp of the record at `high`, where that is ahead of now and so may end the range early.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    topic: str
    partition: int
    low: int
    high: int
    held_low: int
    held_high: int
    gone: int | None = 0
    first_at: datetime | None = None
    bytes_estimated: int = 0
    ends_at: datetime | None = None

    @property
    def offsets(self) -> int:
        """How many offsets are read; records may be fewer."""
        return self.high - self.low

    @property
    def is_truncated(self) -> bool:
        """Whether the start of what was asked for is deleted, or may be."""
        return self.gone != 0

    @property
    def early_end(self) -> str | None:
        """Why the range may end too early, for people."""
        part = SourcePartition(self.topic, self.partition)
        return None if self.ends_at is None else early_end(part, self.high, self.ends_at)

    @property
    def truncation(self) -> str:
        """What is gone and what is left, for people."""
        where = f"{self.topic}[{self.partition}]"
        if self.held_low == self.held_high:
            left = "nothing is left of it"
        else:
            of_then = f", of {self.first_at.isoformat(timespec='seconds')}" if self.first_at else ""
            left = f"the first record left is at offset {self.held_low}{of_then}"
        what = f"{self.gone:,} of the offsets asked for" if self.gone else f"what was below offset {self.held_low}"
        return f"{where}: {what} is deleted; {left}"


class Chunk(BaseModel):
    """What is read, written and marked as done as a whole.

    Attributes:
        number: from 0.
        slices: one a partition.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    slices: tuple[Slice, ...]

    @property
    def offsets(self) -> int:
        """How many there are."""
        return sum(piece.offsets for piece in self.slices)


Lane = tuple[Chunk, ...]
"""Chunks that are handled one after the other, by one worker: those of a partition are all in one."""


def plan_times(
    bootstrap_servers: str, topics: Iterable[str], start: datetime, end: datetime | None
) -> list[PartitionPlan]:
    """Resolve `[start, end)` to offsets, for each partition.

    See `offset_ranges.offsets_at` for what that means where timestamps are out of order. A partition without
    records of that time has an empty range. A transaction that is still open, and what is behind it, is not part of it.

    Args:
        bootstrap_servers: the brokers.
        topics: the raw topics.
        start: with a zone; the first record's Kafka timestamp is this or later.
        end: with a zone; every record is older. None: all that partitions hold now, whatever its timestamp.

    Raises:
        UserError: `start` is not before `end`, or a topic does not exist (PrerequisiteError).
    """
    if start >= (last := end or datetime.now(UTC)):
        raise UserError(f"the replay would start at {start.isoformat()} and end before, at {last.isoformat()}")
    held = offset_ranges(bootstrap_servers, topics, committed_only=True)
    ranges = offsets_between(bootstrap_servers, held, start, end)
    # Where something is deleted and nothing older than `start` is left, something younger may be deleted as well.
    at_start = {part for part, within in held.items() if ranges[part].low == within.low > 0}
    samples = _Samples(bootstrap_servers, {part: held[part] if part in at_start else ranges[part] for part in ranges})
    gone = {
        part: None if part in at_start and (first := samples.first_at(part)) != start and _is_after(first, start) else 0
        for part in held
    }
    ends = ends_ahead_of_now(bootstrap_servers, held, ranges)
    return [
        plan.model_copy(update={"ends_at": ends.get(SourcePartition(plan.topic, plan.partition))})
        for plan in _plans(ranges, held, gone, samples)
    ]


def plan_offsets(bootstrap_servers: str, asked: Mapping[SourcePartition, OffsetRange]) -> list[PartitionPlan]:
    """Check offsets against what partitions hold.

    Raises:
        UserError: a partition does not exist, or does not reach as far; or a topic does not exist (PrerequisiteError).
    """
    topics = list(dict.fromkeys(part.topic for part in asked))
    held = offset_ranges(bootstrap_servers, topics, committed_only=True)
    ranges, gone = {}, {}
    for part, wanted in asked.items():
        if part not in held:
            raise UserError(f"there is no partition {part}")
        within = held[part]
        if wanted.high > within.high:
            raise UserError(f"{part} ends at offset {within.high}, which is before {wanted.high}")
        low = min(max(wanted.low, within.low), wanted.high)
        ranges[part], gone[part] = OffsetRange(low, wanted.high), low - wanted.low
    return _plans(ranges, held, gone, _Samples(bootstrap_servers, ranges))


def _is_after(first: datetime | None, start: datetime) -> bool:
    # Without a record, or a timestamp, nothing says that the deleted ones were older.
    return first is None or first > start


def _plans(
    ranges: Mapping[SourcePartition, OffsetRange],
    held: Mapping[SourcePartition, OffsetRange],
    gone: Mapping[SourcePartition, int | None],
    samples: "_Samples",
) -> list[PartitionPlan]:
    return [
        PartitionPlan(
            topic=part.topic,
            partition=part.partition,
            low=wanted.low,
            high=wanted.high,
            held_low=held[part].low,
            held_high=held[part].high,
            gone=gone[part],
            first_at=samples.first_at(part),
            bytes_estimated=round(wanted.offsets * samples.bytes_a_record),
        )
        for part, wanted in sorted(ranges.items())
    ]


class _Samples:
    """The first records of ranges."""

    def __init__(self, bootstrap_servers: str, ranges: Mapping[SourcePartition, OffsetRange]) -> None:
        starts = {
            part: OffsetRange(wanted.low, min(wanted.high, wanted.low + _SAMPLED_OFFSETS))
            for part, wanted in ranges.items()
        }
        self._first: dict[SourcePartition, datetime | None] = {}
        records = size = 0
        for batch in read_ranges(bootstrap_servers, starts, committed_only=True):
            records += batch.num_rows
            for name in ("raw_key", "raw_value"):
                size += pc.sum(pc.binary_length(batch.column(name))).as_py() or 0
            topic = batch.column("source_topic")[0].as_py()
            partitions, rows = np.unique(batch.column("source_partition").to_numpy(), return_index=True)
            for partition, row in zip(partitions.tolist(), rows.tolist(), strict=True):
                self._first.setdefault(SourcePartition(topic, partition), batch.column("source_timestamp")[row].as_py())
        self.bytes_a_record = size / records if records else 0.0

    def first_at(self, part: SourcePartition) -> datetime | None:
        return self._first.get(part)


def lanes_of(plans: Iterable[PartitionPlan], workers: int) -> tuple[Lane, ...]:
    """Cut a plan into chunks, and put them into lanes.

    A chunk holds a piece of each of several partitions of a topic, which are read side by side: what is then written
    goes to many partitions as well. Topics of few offsets share a chunk.

    Args:
        plans: what to read.
        workers: how many read side by side.
    """
    wanted = sorted((plan for plan in plans if plan.offsets), key=attrgetter("topic"))
    share = sum(plan.offsets for plan in wanted) // (workers * _CHUNKS_A_WORKER)
    limit = min(MAX_CHUNK_OFFSETS, max(_LEAST_CHUNK_OFFSETS, share))
    pieces: list[list[tuple[Slice, ...]]] = []
    shared: list[Slice] = []
    for _, of_topic in groupby(wanted, attrgetter("topic")):
        for group in _dealt(list(of_topic), workers, limit):
            offsets = sum(plan.offsets for plan in group)
            if offsets > limit:
                # Of each partition a piece may be longer by one than its share.
                pieces.append(list(_cut(group, -(-offsets // max(1, limit - len(group) + 1)))))
                continue
            if shared and sum(piece.offsets for piece in shared) + offsets > limit:
                pieces.append([tuple(shared)])
                shared = []
            shared.extend(*_cut(group, 1))
    if shared:
        pieces.append([tuple(shared)])
    # The longest first: nobody waits for it alone at the end.
    pieces.sort(key=lambda lane: -sum(piece.offsets for slices in lane for piece in slices))
    numbers = iter(range(sum(map(len, pieces))))
    return tuple(tuple(Chunk(number=next(numbers), slices=slices) for slices in lane) for lane in pieces)


def round_of(lanes: Sequence[Lane], most_offsets: int) -> tuple[Lane, ...]:
    """Return what to do first of lanes: the first chunks of each, then the second ones, until no more may be taken.

    At least one chunk, however long it is: there must be progress.
    """
    in_turn = [chunk for turn in zip_longest(*lanes) for chunk in turn if chunk is not None]
    fitting = bisect_right(list(accumulate(chunk.offsets for chunk in in_turn)), most_offsets)
    taken = {chunk.number for chunk in in_turn[: max(fitting, 1)]}
    firsts = (tuple(chunk for chunk in lane if chunk.number in taken) for lane in lanes)
    return tuple(lane for lane in firsts if lane)


def _dealt(plans: Sequence[PartitionPlan], workers: int, limit: int) -> list[list[PartitionPlan]]:
    """Deal a topic's partitions to a group for each worker, of about the same size; to fewer if they are small."""
    groups = min(workers, len(plans), -(-sum(plan.offsets for plan in plans) // limit))
    dealt: list[list[PartitionPlan]] = [[] for _ in range(groups)]
    for plan in sorted(plans, key=attrgetter("offsets"), reverse=True):
        min(dealt, key=lambda group: sum(other.offsets for other in group)).append(plan)
    return dealt


def _cut(plans: Sequence[PartitionPlan], count: int) -> Iterator[tuple[Slice, ...]]:
    """Cut each partition into so many pieces; yield the first ones of all, then the second ones."""
    for number in range(count):
        pieces = (
            Slice(
                topic=plan.topic,
                partition=plan.partition,
                low=plan.low + plan.offsets * number // count,
                high=plan.low + plan.offsets * (number + 1) // count,
            )
            for plan in plans
        )
        yield tuple(piece for piece in pieces if piece.offsets)
