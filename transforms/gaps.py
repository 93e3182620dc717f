"""DetectSequenceGaps: which records of a network function have never arrived, by their local sequence numbers.

A node's records are spread over the partitions of a topic, so no worker sees all its numbers. But the numbers alone are
little: each batch is summed up as ranges, which are brought together by node. The CDRs themselves are not shuffled.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import PickleCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from transforms.countries import parts_of
from transforms.ranges import Ranges, ranges_of
from transforms.sequences import MODULUS, Finding, NodeSequence
from transforms.texts import mask_of

Node = tuple[str, str]
"""Country, and the node's id."""

Summary = tuple[bytes, dict[str, int]]
"""Ranges of the numbers of a node in a batch, and by partition the first of them."""


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
    def of(cls, node: Node, finding: Finding) -> "SequenceGap":
        """Return a finding with its node."""
        return cls(*node, finding.kind, finding.first, finding.last, finding.records)


def summaries_of(batch: pa.RecordBatch) -> Iterator[tuple[Node, Summary]]:
    """Yield for each node of a batch the numbers of its records; nothing for records without node or number.

    Args:
        batch: rows of `schemas.cdr.NORMALIZED_SCHEMA`.
    """
    for country, rows in parts_of(batch):
        yield from _summaries_of(country, rows)


def _summaries_of(country: str, batch: pa.RecordBatch) -> Iterator[tuple[Node, Summary]]:
    numbers, nodes = batch.column("local_sequence_number"), batch.column("node_id")
    values = numbers.fill_null(MODULUS).to_numpy()
    rows = np.flatnonzero((values < MODULUS) & mask_of(nodes.is_valid()))
    encoded = nodes.take(pa.array(rows)).dictionary_encode()
    topics, partitions = batch.column("source_topic"), batch.column("source_partition")
    for number, node in enumerate(encoded.dictionary.to_pylist()):
        own = rows[encoded.indices.to_numpy() == number]
        _, places = np.unique(partitions.to_numpy()[own], return_index=True)
        firsts = {f"{topics[row]}[{partitions[row]}]": int(values[row]) for row in own[places].tolist()}
        yield (country, node), (ranges_of(values[own]).tobytes(), firsts)


def _ranges(encoded: bytes) -> Ranges:
    return np.frombuffer(encoded, np.int64).reshape(-1, 2)


class _FollowFn(beam.DoFn):  # type: ignore[misc]
    """Follows a node's numbers in a stream: a gap that is there at two ticks of the clock is reported."""

    SEQUENCE = ReadModifyWriteStateSpec("sequence", PickleCoder())
    SETTLE = TimerSpec("settle", TimeDomain.REAL_TIME)

    def __init__(self, tolerance_s: float) -> None:
        self._tolerance_s = tolerance_s

    def process(
        self,
        element: tuple[Node, Summary],
        sequence: Any = beam.DoFn.StateParam(SEQUENCE),  # noqa: B008 - Beam's way
        settle: Any = beam.DoFn.TimerParam(SETTLE),  # noqa: B008
    ) -> Iterator[SequenceGap]:
        node, (ranges, firsts) = element
        known = sequence.read()
        if known is None:
            known = NodeSequence(is_complete=False)
            settle.set(Timestamp.now() + self._tolerance_s)
        for finding in known.add(_ranges(ranges), firsts):
            yield SequenceGap.of(node, finding)
        sequence.write(known)

    @on_timer(SETTLE)  # type: ignore[untyped-decorator]
    def settle(
        self,
        node: Any = beam.DoFn.KeyParam,
        sequence: Any = beam.DoFn.StateParam(SEQUENCE),  # noqa: B008 - Beam's way
        settle: Any = beam.DoFn.TimerParam(SETTLE),  # noqa: B008
    ) -> Iterator[SequenceGap]:
        known = sequence.read()
        for finding in known.settle():
            yield SequenceGap.of(node, finding)
        sequence.write(known)
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

    In: `pa.RecordBatch` of `schemas.cdr.NORMALIZED_SCHEMA`; it changes nothing of them. Out:
    SequenceGap. Of a bounded input every gap, at its end. Of a stream, a gap that has been open for `tolerance_s` to
    twice as long; what comes later is reported as filled. A stream begins in the midst of things, so numbers below the
    first one of any partition are not missed. Its memory is Beam's state, which a runner keeps with its checkpoints.

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
            follow = beam.ParDo(_FollowFn(self.tolerance_s)).with_output_types(SequenceGap)
            return summaries | "FollowNodes" >> follow
        close = beam.FlatMapTuple(gaps_of_node).with_output_types(SequenceGap)
        return summaries | "GroupByNode" >> beam.GroupByKey() | "CloseNodes" >> close
