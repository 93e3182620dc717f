"""DetectSequenceGaps: which records of a network function have never arrived, by their local sequence numbers.

A node's records are spread over the partitions of a topic, so no worker sees all its numbers. But the numbers alone are
little: each batch is summed up as ranges, which are brought together by node. The CDRs themselves are not shuffled.
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
"""Country, and the node's id."""

MAX_NODE_BYTES = 64
"""Of a node's id: TS 32.298 has 20 characters at most, and what is longer is no node's."""

SHARDS = 256
SHARD_NODES = 16
"""An id is free text of a payload, so a stream follows no more nodes of a country than these two allow, 4,096: nodes
are spread over so many shards, each with one state and one timer, and a shard holds so many nodes."""

Shard = tuple[str, int]
"""Country, and the number of the shard."""

Summary = tuple[bytes, dict[str, int]]
"""Ranges of the numbers of a node in a batch, and by partition the first of them."""

_logger = logging.getLogger(__name__)


class SequenceGap(NamedTuple):
    """A finding about the local sequence numbers of a node.

    Attributes:
        country: whose network it is.
        node_id: as its records say.
        kind: missing; filled: reported missing before, and arrived after all; reset: the counter has jumped.
        first: the first number that is meant; of a reset, the highest one before the jump.
        last: the last one; of a reset, the one behind the jump.
        records: how many records are meant.
    """

    country: str
    node_id: str
    kind: str
    first: int
    last: int
    records: int

    @classmethod
    def of(cls, node: Node, finding: SequenceFinding) -> "SequenceGap":
        """Return a finding with its node."""
        return cls(*node, finding.kind, finding.first, finding.last, finding.records)


def summaries_of(batch: pa.RecordBatch) -> Iterator[tuple[Node, Summary]]:
    """Yield for each node of a batch the numbers of its records; nothing for records without node or number.

    Args:
        batch: rows of `cdr.NORMALIZED_SCHEMA`.
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
    """Return the shard that a node is in, the same in every process."""
    country, node_id = node
    return country, zlib.crc32(node_id.encode()) % SHARDS


def _ranges(encoded: bytes) -> NumberRanges:
    return np.frombuffer(encoded, np.int64).reshape(-1, 2)


class _FollowFn(beam.DoFn):  # type: ignore[misc]
    """Follows the numbers of a shard's nodes in a stream: a gap that is there at two ticks of the clock is reported.

    The state is a sequence a node, the one that was heard of last at the end.
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
    """Yield all findings about a node of which everything has been read, its summaries in any order."""
    sequence = NodeSequence(is_complete=True)
    for ranges, _ in sorted(summaries, key=lambda summary: min(summary[1].items())):
        for finding in sequence.add(_ranges(ranges), {}):
            yield SequenceGap.of(node, finding)
    for finding in sequence.close():
        yield SequenceGap.of(node, finding)


class DetectSequenceGaps(beam.PTransform):  # type: ignore[misc]
    """Reports which records of a node are missing, by 3GPP TS 32.298's local sequence numbers.

    In: `pa.RecordBatch` of `cdr.NORMALIZED_SCHEMA`; it changes nothing of them. Out:
    SequenceGap. Of a bounded input every gap, at its end. Of a stream, a gap that has been open for `tolerance_s` to
    twice as long; what comes later is reported as filled. A stream begins in the midst of things, so numbers below the
    first one of any partition are not missed. Its memory is Beam's state, which a runner keeps with its checkpoints; it
    is bounded, see SHARDS: of more nodes the one that was quiet longest is forgotten, and its open gaps are reported.

    Attributes:
        tolerance_s: of a stream; None for a bounded input.
    """

    def __init__(self, tolerance_s: float | None) -> None:
        """Check the configuration."""
        super().__init__()
        if tolerance_s is not None and tolerance_s <= 0:
            raise ValueError(f"tolerance_s must be positive, not {tolerance_s}")
        self.tolerance_s = tolerance_s

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Sum up each batch and follow each node."""
        summaries = batches | "SumUpNumbers" >> beam.FlatMap(summaries_of).with_output_types(tuple[Node, Summary])
        if self.tolerance_s is not None:
            shards = summaries | "ToShards" >> beam.Map(lambda each: (shard_of(each[0]), each)).with_output_types(
                tuple[Shard, tuple[Node, Summary]]
            )
            follow = beam.ParDo(_FollowFn(self.tolerance_s)).with_output_types(SequenceGap)
            return shards | "FollowNodes" >> follow
        close = beam.FlatMapTuple(gaps_of_node).with_output_types(SequenceGap)
        return summaries | "GroupByNode" >> beam.GroupByKey() | "CloseNodes" >> close
