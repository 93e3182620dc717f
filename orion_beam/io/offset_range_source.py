"""Bounded Kafka source: reads exactly the offset ranges of a plan. It is pure Python and runs on any runner."""

from collections.abc import Iterator, Mapping
from typing import Protocol

import apache_beam as beam
import pyarrow as pa

from orion_beam.config import KafkaRanges, Slice
from orion_beam.kafka.login import login_file, use_login_file
from orion_beam.kafka.offset_ranges import Advance, OffsetRange, SourcePartition, read_ranges
from orion_beam.telemetry.run_counters import READ
from orion_beam.transforms.stage.counters import count

BATCH_ROWS = 49_152
"""Maximum rows of a batch. It is more than MAX_ROWS, since the latency of a replay's first rows does not matter."""


class Before(Protocol):
    """Learner of the records that precede ranges; see `DuplicatesBefore`."""

    def learn(self, ranges: Mapping[SourcePartition, OffsetRange]) -> None:
        """Read the records before ranges of one topic, which are read next."""


class _Progress:
    """Receiver of the progress of all readers of this process."""

    listener: Advance | None = None

    def advance(self, offsets: int) -> None:
        if self.listener is not None:
            self.listener(offsets)


_progress = _Progress()


def on_progress(listener: Advance | None) -> None:
    """Set the function that readers of this process call, in their own threads, with the offsets they advanced."""
    _progress.listener = listener


class _ReadLane(beam.DoFn):  # type: ignore[misc]
    def __init__(self, source: KafkaRanges, countries: Mapping[str, str], before: Before | None) -> None:
        self._servers = source.bootstrap_servers
        self._countries = countries
        self._before = before
        self._login = login_file()

    def setup(self) -> None:
        use_login_file(self._login)

    def process(self, lane: tuple[Slice, ...]) -> Iterator[pa.RecordBatch]:
        for ranges in _rounds(lane):
            if self._before is not None:
                self._before.learn(ranges)
            batches = read_ranges(
                self._servers, ranges, max_rows=BATCH_ROWS, committed_only=True, advance=_progress.advance
            )
            for batch in batches:
                country = self._countries[batch.column("source_topic")[0].as_py()]
                count(READ, country, rows=batch.num_rows)
                yield batch.append_column("country", pa.repeat(pa.scalar(country), batch.num_rows))


def _rounds(lane: tuple[Slice, ...]) -> Iterator[dict[SourcePartition, OffsetRange]]:
    """Yield a lane's slices in groups to read together: of one topic, so batches are large, each partition once."""
    ranges: dict[SourcePartition, OffsetRange] = {}
    for piece in lane:
        part = SourcePartition(piece.topic, piece.partition)
        if part in ranges or any(other.topic != part.topic for other in ranges):
            yield ranges
            ranges = {}
        ranges[part] = OffsetRange(piece.low, piece.high)
    if ranges:
        yield ranges


class ReadKafkaRanges(beam.PTransform):  # type: ignore[misc]
    """Reads offset ranges, lane by lane.

    Out: `pa.RecordBatch` of `raw.RAW_CDR_SCHEMA`, up to BATCH_ROWS rows of one country. Bounded. At least once: a lane
    that fails is read again from its beginning. Records of aborted transactions are skipped, as in the stream. Records
    of one partition in one lane keep their order.
    """

    def __init__(self, source: KafkaRanges, countries: Mapping[str, str], before: Before | None = None) -> None:
        """Take the ranges, the country of each topic, and the learner of earlier records (None: no learner)."""
        super().__init__()
        self.source = source
        self.countries = countries
        self.before = before

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Spread the lanes over the workers, and read each."""
        lanes = pipeline | "ListLanes" >> beam.Create(list(self.source.lanes))
        read = beam.ParDo(_ReadLane(self.source, self.countries, self.before)).with_output_types(pa.RecordBatch)
        return lanes | "ReadLanes" >> read
