"""Comparison of what a contender has written with what `work.handle` gives, and latencies of its records."""

import json
from collections.abc import Callable, Iterator, Mapping
from enum import Enum

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyruhvro

from benchmarks.peers.records import TOPIC, Pool
from benchmarks.peers.work import FIELDS, SCHEMA
from orion_beam.kafka.offset_ranges import OffsetRange, offset_ranges, read_ranges
from orion_beam.schemas.avro_format import SINGLE_OBJECT_HEADER_BYTES
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema


class Output(Enum):
    """What a contender writes to cdr.final."""

    CDR = "ORION's unified CDRs; their fields of the same names are compared"
    PLAIN = "Avro with the schema of `work.SCHEMA`"
    COPY = "each raw record, unchanged; nothing goes to cdr.dlq"


_Frames = Callable[[list[bytes]], pl.DataFrame]


def fields_of(output: Output) -> _Frames:
    """Return the function that decodes values of cdr.final to a frame of comparable columns."""
    if output is Output.COPY:
        return lambda values: pl.DataFrame({"value": values}, {"value": pl.Binary})
    header = SINGLE_OBJECT_HEADER_BYTES if output is Output.CDR else 0
    schema = avro_schema(UnifiedCdr) if output is Output.CDR else json.dumps(SCHEMA)

    def decode(values: list[bytes]) -> pl.DataFrame:
        batch = pyruhvro.deserialize_array([value[header:] for value in values], schema)
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        # Times have other units, and dates other types, in other schemas.
        return frame.select(FIELDS).with_columns(
            pl.col("event_time").cast(pl.Datetime("ms")).cast(pl.Int64),
            pl.col("event_date").cast(pl.String),
            pl.col("event_hour").cast(pl.Int64),
        )

    return decode


class Expected:
    """What must be on the output topics, as hashes of records.

    Args:
        pool: The distinct records.
        output: What the contender writes.
    """

    def __init__(self, pool: Pool, output: Output) -> None:
        """Hash the outcomes of the pool's records."""
        is_final = np.ones(len(pool.keys), np.bool_)
        if output is not Output.COPY:
            is_final = pool.finals.is_valid().to_numpy(zero_copy_only=False)
        rows = pa.array(np.flatnonzero(is_final))
        values = pool.values if output is Output.COPY else pool.finals
        expected = fields_of(Output.COPY if output is Output.COPY else Output.PLAIN)
        self._decode = fields_of(output)
        self._is_final = is_final
        self._finals = hashes(pool.keys.take(rows), expected(values.take(rows).to_pylist()))
        letters = pa.array(np.flatnonzero(~is_final))
        self._letters = _raw_hashes(pool.keys.take(letters), pool.values.take(letters))

    def problems(self, bootstrap_servers: str, times: npt.NDArray[np.int64]) -> list[str]:
        """Read both output topics and return a line for each difference.

        Args:
            bootstrap_servers: The broker.
            times: How often each record of the pool was on the raw topic.
        """
        found = {topic: pl.Series([], dtype=pl.UInt64) for topic in ("cdr.final", "cdr.dlq")}
        for records in _read(bootstrap_servers, "cdr.final"):
            found["cdr.final"].append(
                hashes(records.column("raw_key"), self._decode(records.column("raw_value").to_pylist()))
            )
        for records in _read(bootstrap_servers, "cdr.dlq"):
            found["cdr.dlq"].append(_raw_hashes(records.column("raw_key"), records.column("raw_value")))
        final = differences("cdr.final", self._finals, times[self._is_final], found["cdr.final"])
        return final + differences("cdr.dlq", self._letters, times[~self._is_final], found["cdr.dlq"])


def hashes(keys: pa.BinaryArray, fields: pl.DataFrame) -> pl.Series:
    """Return a hash of each record: of its key and its fields."""
    return fields.with_columns(pl.Series("kafka_key", pl.from_arrow(keys))).hash_rows(seed=1)


def _raw_hashes(keys: pa.BinaryArray, values: pa.BinaryArray) -> pl.Series:
    return hashes(keys, pl.DataFrame({"value": pl.from_arrow(values)}, {"value": pl.Binary}))


def differences(topic: str, known: pl.Series, times: npt.NDArray[np.int64], found: pl.Series) -> list[str]:
    """Return a line if records are missing or unexpected.

    Args:
        topic: Name for the line.
        known: Hashes of the records that may come.
        times: How often each must come.
        found: Hashes of the records that came.
    """
    expected = pl.DataFrame({"hash": known, "times": times}).group_by("hash").agg(pl.col("times").sum())
    came = pl.DataFrame({"hash": found}).group_by("hash").agg(pl.len().cast(pl.Int64).alias("came"))
    both = expected.join(came, on="hash", how="full", coalesce=True).fill_null(0)
    more = both.select(pl.col("came") - pl.col("times")).to_series()
    missing, unexpected = int(-more.clip(upper_bound=0).sum()), int(more.clip(lower_bound=0).sum())
    if not missing and not unexpected:
        return []
    return [f"{topic}: {missing:,} records missing, {unexpected:,} unexpected or repeated"]


def latencies_ms(bootstrap_servers: str, fed_from: Mapping[int, int], skipped: int) -> npt.NDArray[np.int64]:
    """Return the latency of each record of a feed, but for the first ones of each partition.

    A record keeps its partition, and the order within it, and every record of the feed is accepted: so the last
    records of a partition of cdr.final are those of the same partition of the raw topic. A latency is the time from
    the raw record's Kafka timestamp to the time at which the broker appended the final one.

    Args:
        bootstrap_servers: The broker. cdr.final must have `message.timestamp.type=LogAppendTime`.
        fed_from: Offset of the feed's first record on each partition of the raw topic.
        skipped: Number of records to leave out of each partition, for the warm-up.
    """
    raw = _timestamps(bootstrap_servers, TOPIC, fed_from)
    ends = {at.partition: held.high for at, held in offset_ranges(bootstrap_servers, ["cdr.final"]).items()}
    starts = {partition: ends[partition] - len(times) for partition, times in raw.items()}
    final = _timestamps(bootstrap_servers, "cdr.final", starts)
    return np.concatenate([(final[partition] - times)[skipped:] for partition, times in raw.items()])


def _timestamps(bootstrap_servers: str, topic: str, starts: Mapping[int, int]) -> dict[int, npt.NDArray[np.int64]]:
    columns = [
        (batch.column("source_partition").to_numpy(), batch.column("source_timestamp").cast(pa.int64()).to_numpy())
        for batch in _read(bootstrap_servers, topic, starts)
    ]
    partitions, times = (np.concatenate(column) for column in zip(*columns, strict=True))
    return {partition: times[partitions == partition] for partition in np.unique(partitions).tolist()}


def _read(bootstrap_servers: str, topic: str, starts: Mapping[int, int] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the records of a topic up to its present ends, from its beginning or from given offsets."""
    held = offset_ranges(bootstrap_servers, [topic])
    begin = dict(starts or {})
    wanted = {at: OffsetRange(begin.get(at.partition, ends.low), ends.high) for at, ends in held.items()}
    yield from read_ranges(bootstrap_servers, wanted)
