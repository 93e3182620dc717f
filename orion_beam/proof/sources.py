"""Where records came from: raw topic, partition, offset and time, of many records at once."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from orion_beam.kafka.offset_ranges import SourcePartition
from orion_beam.proof.avro_tail import NO_TIMESTAMP
from orion_beam.transforms.arrow.compiled import Offsets


class Sources(NamedTuple):
    """The sources of some of the records that were asked for.

    Attributes:
        topics: names of raw topics.
        topic: of each record, the index of its own.
        partition: of it.
        offset: of it.
        timestamp_ms: of the raw record, or NO_TIMESTAMP.
        rows: which of the records that were asked for they are.
    """

    topics: Sequence[str]
    topic: Offsets
    partition: Offsets
    offset: Offsets
    timestamp_ms: Offsets
    rows: Offsets

    def by_partition(self) -> Iterator[tuple[SourcePartition, Offsets]]:
        """Yield the offsets of each source partition."""
        if not len(self.rows):
            return
        keys = (self.topic << 32) | self.partition
        order = np.argsort(keys, kind="stable")
        cuts = np.flatnonzero(np.diff(keys[order])) + 1
        for rows in np.split(order, cuts):
            first = rows[0]
            yield SourcePartition(self.topics[self.topic[first]], int(self.partition[first])), self.offset[rows]


def sources_of(records: pa.RecordBatch, rows: Offsets) -> Sources:
    """Return the sources of decoded records, which have the columns `source_topic` to `source_timestamp`."""
    topics = records.column("source_topic").dictionary_encode()
    return Sources(
        topics=topics.dictionary.to_pylist(),
        topic=topics.indices.to_numpy().astype(np.int64),
        partition=records.column("source_partition").to_numpy().astype(np.int64),
        offset=records.column("source_offset").to_numpy(),
        timestamp_ms=records.column("source_timestamp").cast(pa.int64()).fill_null(NO_TIMESTAMP).to_numpy(),
        rows=rows,
    )


def concat_sources(parts: Iterable[Sources]) -> Sources:
    """Return several as one."""
    topics: list[str] = []
    columns: list[tuple[Offsets, ...]] = [(np.zeros(0, np.int64),) * 5]
    for part in parts:
        columns.append((part.topic + len(topics), *part[2:]))
        topics.extend(part.topics)
    return Sources(topics, *(np.concatenate(column) for column in zip(*columns, strict=True)))
