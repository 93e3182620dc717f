"""Sources of many records at once: raw topic, partition, offset and time, as columns."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from orion_beam.kafka.offset_ranges import SourcePartition
from orion_beam.proof.avro_tail import NO_TIMESTAMP
from orion_beam.transforms.arrow.compiled import Offsets


class Sources(NamedTuple):
    """Sources of those input records that could be read, one value per record.

    Attributes:
        topics: Names of raw topics.
        topic: Index of the raw topic in `topics`.
        partition: Partition of the raw record.
        offset: Offset of the raw record.
        timestamp_ms: Kafka timestamp of the raw record in epoch milliseconds, or NO_TIMESTAMP.
        rows: Index of the record in the input.
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
    """Return the sources of decoded records; `records` has the columns `source_topic` to `source_timestamp`."""
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
    """Join several sources into one."""
    topics: list[str] = []
    columns: list[tuple[Offsets, ...]] = [(np.zeros(0, np.int64),) * 5]
    for part in parts:
        columns.append((part.topic + len(topics), *part[2:]))
        topics.extend(part.topics)
    return Sources(topics, *(np.concatenate(column) for column in zip(*columns, strict=True)))
