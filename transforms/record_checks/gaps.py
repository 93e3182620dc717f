"""DetectSequenceGaps: finds records of a network node that never arrived, by their local sequence numbers.

The records of a node are spread over the partitions of a topic, so no worker sees all its numbers. Each batch is
therefore summed up as ranges of numbers, which are small, and these are grouped by node. The CDRs are not shuffled.
"""

import logging
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import PickleCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from orion_beam.transforms.arrow.texts import lengths_of, mask_of
from orion_beam.transforms.record_checks.number_ranges import NumberRanges, ranges_of
from orion_beam.transforms.record_checks.sequences import MODULUS, NodeSequence, SequenceFinding
from orion_beam.transforms.stage.join_countries import parts_of

Node = tuple[str, str]
"""Country code and ID of a node."""

MAX_NODE_BYTES = 64
"""Longest node ID. TS 32.298 allows at most 20 characters, so a longer text is not a node ID."""

SHARDS = 256
SHARD_NODES = 16
"""Number of shards of a country, each with one state and one timer, and largest number of nodes in a shard. A stream
thus follows at most 4,096 nodes of a country. The bound is needed because a node ID is free text of a payload."""

Shard = tuple[str, int]
"""Country code and number of a shard."""

Summary = tuple[bytes, dict[str, int]]
"""Encoded ranges of the numbers of a node in a batch, and the first number by partition."""

_logger = logging.getLogger(__name__)


class SequenceGap(NamedTuple):
    """A finding about the local sequence numbers of a node.

    Attributes:
        country: Country of the network.
        node_id: ID of the node, from its records.
        kind: `missing`; `filled`, if reported missing before and arrived later; `reset`, if the counter has jumped.
        first: First number of the gap; for a reset, the highest number before the jump.
        last: Last number of the gap; for a reset, the number after the jump.
        records: Number of records in the gap; 0 for a reset.
    """

    country: str
    node_id: str
    kind: str
    first: int
    last: int
    records: int

    @classmethod
    def of(cls, node: Node, finding: SequenceFinding) -> "SequenceGap":
        """Make the gap of a node's finding."""
        return cls(*node, finding.kind, finding.first, finding.last, finding.records)


def summaries_of(batch: pa.RecordBatch) -> Iterator[tuple[Node, Summary]]:
    """Yield each node of a batch with the summary of its numbers. Records without node ID or number are ignored.

    Args:
        batch: Rows of `cdr.NORMALIZED_SCHEMA`.
    """
    for country, rows in parts_of(batch):
        yield from _summaries_of(country, rows)


def _summaries_of(country: str, batch: pa.RecordBatch) -> Iterator[tuple[Node, Summary]]:
    numbers, nodes = batch.column("local_sequence_number"), batch.column("node_id")
    values = numbers.fill_null(MODULUS).to_numpy()
    rows = np.flatnonzero((values < MODULUS) & mask_of(nodes.is_valid()) & (lengths_of(nodes) <= MAX_NODE_BYTES))
    if not len(rows):
        return
    encoded = nodes.take(pa.array(rows)).dictionary_encode()
    topics, partitions = batch.column("source_topic"), batch.column("source_partition")
    indices = encoded.indices.to_numpy()
    order = np.argsort(indices, kind="stable")
    ends = np.cumsum(np.bincount(indices, minlength=len(encoded.dictionary)))
    for node, own in zip(encoded.dictionary.to_pylist(), np.split(rows[order], ends[:-1]), strict=True):
        _, places = np.unique(partitions.to_numpy()[own], return_index=True)
        firsts = {f"{topics[row]}[{partitions[row]}]": int(values[row]) for row in own[places].tolist()}
        yield (country, node), (ranges_of(values[own]).tobytes(), firsts)


def shard_of(node: Node) -> Shard:
    """Return the shard of a node. It is the same in every process."""
    country, node_id = node
    return country, zlib.crc32(node_id.encode()) % SHARDS


def _ranges(encoded: bytes) -> NumberRanges:
    return np.frombuffer(encoded, np.int64).reshape(-1, 2)


class _FollowFn(beam.DoFn):  # type: ignore[misc]
    """Follows the numbers of a shard's nodes in a stream. It reports a gap that is open at two ticks of its timer.

    The state is a dict of one NodeSequence for each node, ordered from the node quiet longest to the latest one.
    """

    SEQUENCES = ReadModifyWriteStateSpec("sequences", PickleCoder())
    SETTLE = TimerSpec("settle", TimeDomain.REAL_TIME)

    def __init__(self, tolerance_s: float) -> None:
        self._tolerance_s = tolerance_s

    def process(
        self,
        element: tuple[Shard, tuple[Node, Summary]],
        sequences: Any = beam.DoFn.StateParam(SEQUENCES),  # noqa: B008 - Beam's way
        settle: Any = beam.DoFn.TimerParam(SETTLE),  # noqa: B008
    ) -> Iterator[SequenceGap]:
        _, (node, (ranges, firsts)) = element
        known: dict[Node, NodeSequence] | None = sequences.read()
        if known is None:
            known = {}
            settle.set(Timestamp.now() + self._tolerance_s)
        sequence = known.pop(node, None) or NodeSequence(is_complete=False)
        known[node] = sequence
        for finding in sequence.add(_ranges(ranges), firsts):
            yield SequenceGap.of(node, finding)
        if len(known) > SHARD_NODES:
            yield from self._forget_quietest(known)
        sequences.write(known)

    def _forget_quietest(self, known: dict[Node, NodeSequence]) -> Iterator[SequenceGap]:
        node = next(iter(known))
        for finding in known.pop(node).close():
            yield SequenceGap.of(node, finding)
        where = {"event": "too_many_nodes", "country": node[0]}
        text = "more nodes with sequence numbers than can be followed: those that were quiet longest are forgotten"
        _logger.warning(text, extra=where)

    @on_timer(SETTLE)  # type: ignore[untyped-decorator]
    def settle(
        self,
        sequences: Any = beam.DoFn.StateParam(SEQUENCES),  # noqa: B008 - Beam's way
        settle: Any = beam.DoFn.TimerParam(SETTLE),  # noqa: B008
    ) -> Iterator[SequenceGap]:
        known: dict[Node, NodeSequence] = sequences.read()
        for node, sequence in known.items():
            for finding in sequence.settle():
                yield SequenceGap.of(node, finding)
        sequences.write(known)
        settle.set(Timestamp.now() + self._tolerance_s)


def gaps_of_node(node: Node, summaries: Iterable[Summary]) -> Iterator[SequenceGap]:
    """Yield all findings about a node after all its records are read. The summaries may be in any order."""
    sequence = NodeSequence(is_complete=True)
    for ranges, _ in sorted(summaries, key=lambda summary: min(summary[1].items())):
        for finding in sequence.add(_ranges(ranges), {}):
            yield SequenceGap.of(node, finding)
    for finding in sequence.close():
        yield SequenceGap.of(node, finding)


class DetectSequenceGaps(beam.PTransform):  # type: ignore[misc]
    """Reports missing records of a node, by the local sequence numbers of 3GPP TS 32.298.

    In: `pa.RecordBatch` of `cdr.NORMALIZED_SCHEMA`. Out: SequenceGap. A bounded input gives every gap at its end. A
    stream gives a gap after it has been open for `tolerance_s` to twice as long; a record that arrives later is
    reported as filled. A stream begins in the middle of a node's numbers, so numbers below the first one of any
    partition do not count as missing. The memory is Beam state, which the runner keeps in its checkpoints. It is
    bounded, see SHARDS: if there are more nodes, the node that was quiet longest is forgotten and its open gaps are
    reported.

    Attributes:
        tolerance_s: Time that a stream waits for a missing record; None for a bounded input.
    """

    def __init__(self, tolerance_s: float | None) -> None:
        """Check the configuration."""
        super().__init__()
        if tolerance_s is not None and tolerance_s <= 0:
            raise ValueError(f"tolerance_s must be positive, not {tolerance_s}")
        self.tolerance_s = tolerance_s

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Sum up the numbers of each batch and follow each node."""
        summaries = batches | "SumUpNumbers" >> beam.FlatMap(summaries_of).with_output_types(tuple[Node, Summary])
        if self.tolerance_s is not None:
            shards = summaries | "ToShards" >> beam.Map(lambda each: (shard_of(each[0]), each)).with_output_types(
                tuple[Shard, tuple[Node, Summary]]
            )
            follow = beam.ParDo(_FollowFn(self.tolerance_s)).with_output_types(SequenceGap)
            return shards | "FollowNodes" >> follow
        close = beam.FlatMapTuple(gaps_of_node).with_output_types(SequenceGap)
        return summaries | "GroupByNode" >> beam.GroupByKey() | "CloseNodes" >> close
