"""Offset plan of a replay: plain data, resolved before the replay reads, and the same for every runner."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
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
"""Maximum offsets of a chunk: limits the work to repeat after a crash, and the memory of a chunk's dead letters."""
_LEAST_CHUNK_OFFSETS = 20_000
_CHUNKS_A_WORKER = 4
"""Chunks per worker to aim for, so that workers end at about the same time."""
_SAMPLED_OFFSETS = 200
"""Offsets to read of each partition, for the first timestamp and the mean size of records."""


class PartitionPlan(BaseModel):
    """Offsets to read of one partition.

    Attributes:
        low, high: Offsets to read, from `low` to `high` - 1.
        held_low, held_high: Offsets that the partition holds, from `held_low` to `held_high` - 1.
        gone: Number of requested offsets that are deleted. None means that there may be some: a request by time does
            not tell how many deleted records were in it.
        first_at: Kafka timestamp of the first record that is left to read.
        bytes_estimated: Estimated bytes of keys and values, from a sample.
        ends_at: Kafka timestamp of the record at `high` if it is in the future, since it may end the range too early.
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
        """Number of offsets to read; there may be fewer records."""
        return self.high - self.low

    @property
    def is_truncated(self) -> bool:
        """Whether the beginning of the requested offsets is deleted, or may be."""
        return self.gone != 0

    @property
    def early_end(self) -> str | None:
        """Reason why the range may end too early, for people; None if there is none."""
        part = SourcePartition(self.topic, self.partition)
        return None if self.ends_at is None else early_end(part, self.high, self.ends_at)

    @property
    def truncation(self) -> str:
        """Line for people about the deleted offsets and what is left."""
        where = f"{self.topic}[{self.partition}]"
        if self.held_low == self.held_high:
            left = "nothing is left of it"
        else:
            of_then = f", of {self.first_at.isoformat(timespec='seconds')}" if self.first_at else ""
            left = f"the first record left is at offset {self.held_low}{of_then}"
        what = f"{self.gone:,} of the offsets asked for" if self.gone else f"what was below offset {self.held_low}"
        return f"{where}: {what} is deleted; {left}"


class Chunk(BaseModel):
    """Part of a replay that is read, written and marked as done as a whole.

    Attributes:
        number: Number of the chunk, from 0.
        slices: Offsets to read, one slice per partition.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    slices: tuple[Slice, ...]

    @property
    def offsets(self) -> int:
        """Number of offsets."""
        return sum(piece.offsets for piece in self.slices)


Lane = tuple[Chunk, ...]
"""Chunks that one worker handles one after the other. All chunks of a partition are in one lane."""


def plan_times(
    bootstrap_servers: str, topics: Iterable[str], start: datetime, end: datetime | None
) -> list[PartitionPlan]:
    """Resolve the times `[start, end)` to offsets, for each partition.

    `offset_ranges.offsets_at` describes the result for timestamps that are out of order. A partition without records of
    that time has an empty range. The ranges end before the first transaction that is still open.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        topics: Raw topics.
        start: Time with a zone; the first record's Kafka timestamp is this or later.
        end: Time with a zone; every record is older. None means all that partitions hold now, whatever its timestamp.

    Raises:
        PrerequisiteError: The broker cannot be reached, or lacks a topic.
    """
    held = offset_ranges(bootstrap_servers, topics, committed_only=True)
    ranges = offsets_between(bootstrap_servers, held, start, end)
    # If a partition has deleted records, and the oldest one left is not before `start`, then records from `start` on
    # may be deleted, too.
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
    """Check the requested offsets against those that partitions hold, and plan to read them.

    Raises:
        UserError: A partition does not exist, or ends before the requested offsets do.
        PrerequisiteError: The broker cannot be reached, or lacks a topic.
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
    # Without a record or a timestamp, the deleted records may have been after `start`.
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
    """First timestamps of ranges, and mean size of records, from the first records of each range."""

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
    """Cut a plan into chunks, and put the chunks into lanes.

    A chunk has a slice of each of several partitions of a topic. They are read together, so that the output goes to
    many partitions as well. Topics with few offsets share a chunk.

    Args:
        plans: Offsets to read.
        workers: Number of workers that read in parallel.
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
                # Rounding can make the slice of each partition longer by one offset; the limit allows for that.
                pieces.append(list(_cut(group, -(-offsets // max(1, limit - len(group) + 1)))))
                continue
            if shared and sum(piece.offsets for piece in shared) + offsets > limit:
                pieces.append([tuple(shared)])
                shared = []
            shared.extend(*_cut(group, 1))
    if shared:
        pieces.append([tuple(shared)])
    # The longest lane comes first, so that the other workers do not wait for it at the end.
    pieces.sort(key=lambda lane: -sum(piece.offsets for slices in lane for piece in slices))
    numbers = iter(range(sum(map(len, pieces))))
    return tuple(tuple(Chunk(number=next(numbers), slices=slices) for slices in lane) for lane in pieces)


def round_of(lanes: Sequence[Lane], most_offsets: int) -> tuple[Lane, ...]:
    """Return the lanes of the next round: the first chunk of each lane, then the second ones, up to `most_offsets`.

    The round has at least one chunk, however long, so that there is progress.
    """
    in_turn = [chunk for turn in zip_longest(*lanes) for chunk in turn if chunk is not None]
    fitting = bisect_right(list(accumulate(chunk.offsets for chunk in in_turn)), most_offsets)
    taken = {chunk.number for chunk in in_turn[: max(fitting, 1)]}
    firsts = (tuple(chunk for chunk in lane if chunk.number in taken) for lane in lanes)
    return tuple(lane for lane in firsts if lane)


def _dealt(plans: Sequence[PartitionPlan], workers: int, limit: int) -> list[list[PartitionPlan]]:
    """Deal a topic's partitions to groups of about the same size: one per worker, or fewer if the topic is small."""
    groups = min(workers, len(plans), -(-sum(plan.offsets for plan in plans) // limit))
    dealt: list[list[PartitionPlan]] = [[] for _ in range(groups)]
    for plan in sorted(plans, key=attrgetter("offsets"), reverse=True):
        min(dealt, key=lambda group: sum(other.offsets for other in group)).append(plan)
    return dealt


def _cut(plans: Sequence[PartitionPlan], count: int) -> Iterator[tuple[Slice, ...]]:
    """Cut each partition into `count` slices; yield the first slice of all partitions, then the second ones."""
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
