"""FlagDuplicates: marks and counts CDRs whose natural key was seen before. It drops none."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.cdr import NORMALIZED_SCHEMA
from orion_beam.schemas.codes import Code, Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.arrow.texts import Mask, Offsets, is_null
from orion_beam.transforms.record_checks.seen_keys import KeyHashes, Places, SeenKeys
from orion_beam.transforms.stage.batches import SplitBatch, batch_of, columns_of
from orion_beam.transforms.stage.counters import count
from orion_beam.transforms.stage.extra_columns import with_extra_columns
from orion_beam.transforms.stage.join_countries import by_country
from orion_beam.transforms.stage.rejects import no_rejects
from orion_beam.transforms.stage.split import Split, StageTransform

DUPLICATE = "duplicate"
"""Name of the counter of flagged rows."""

DUPLICATES_STEP = "flag_duplicates"
"""Name of the transform in the worker's metrics."""


def natural_keys(columns: Mapping[str, pa.Array], fields: tuple[str, ...]) -> KeyHashes:
    """Return a 64-bit hash, never 0, of some fields of each row. Null is a value like any other.

    Two different keys have the same hash with a probability of 1 in 2^64. With a million remembered keys, one row in
    2 * 10^13 is wrongly taken for a duplicate.
    """
    keys: KeyHashes = np.zeros(len(columns[fields[0]]), np.uint64)
    for seed, name in enumerate(fields):
        column = columns[name]
        # Null adds 0 to the hash, so a column of nulls can be skipped.
        if column.null_count < len(column):
            hashes = pl.Series(column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).hash(seed)
            keys += np.where(is_null(column), np.uint64(0), hashes.to_numpy())
    return np.maximum(keys, np.uint64(1))


class DuplicateMemory:
    """The natural keys of a country's latest CDRs in this process, and the place where each was seen first.

    It is thread-safe.
    """

    def __init__(self, window: int) -> None:
        """Begin without keys. A key is remembered for `window` rows."""
        self._recent = SeenKeys(window)
        self._numbers: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()

    def first_seen(
        self, keys: KeyHashes, topics: pa.StringArray, partitions: Offsets, offsets: Offsets
    ) -> pa.StringArray:
        """Return where the key of each row was first seen, as `topic[partition]@offset`; null if it is new."""
        with self._lock:
            places = Places(self._numbers_of(topics, partitions), offsets)
            origins = self._recent.first_seen(keys, places)
            names = [f"{topic}[{partition}]" for topic, partition in self._numbers]
        is_duplicate = origins.are_before(places)
        if not is_duplicate.any():
            return pa.nulls(len(keys), pa.string())
        offset_texts = pa.array(origins.offsets, mask=~is_duplicate).cast(pa.string())
        return pc.binary_join_element_wise(pa.array(names).take(pa.array(origins.sources)), offset_texts, "@")

    def _numbers_of(self, topics: pa.StringArray, partitions: Offsets) -> Offsets:
        """Return a number for the topic and partition of each row. It is the same in every batch."""
        encoded = topics.dictionary_encode()
        pairs = pa.array(encoded.indices.to_numpy().astype(np.int64) << 32 | partitions).dictionary_encode()
        numbers = []
        for pair in pairs.dictionary.to_pylist():
            source = encoded.dictionary[pair >> 32].as_py(), pair & 0xFFFFFFFF
            numbers.append(self._numbers.setdefault(source, len(self._numbers)))
        of_rows: Offsets = np.array(numbers, np.int64)[pairs.indices.to_numpy()]
        return of_rows


_memories: dict[tuple[str, str], DuplicateMemory] = {}
_memories_lock = threading.Lock()


def memory_of(job: str, country: str, window: int) -> DuplicateMemory:
    """Return this process' memory of a job and country. It outlives the DoFns, which Beam creates and drops."""
    with _memories_lock:
        if (job, country) not in _memories:
            _memories[job, country] = DuplicateMemory(window)
        return _memories[job, country]


def flag_duplicates(batch: pa.RecordBatch, profile: CountryProfile, memory: DuplicateMemory) -> SplitBatch:
    """Mark the rows whose natural key was seen before.

    Args:
        batch: Rows of `cdr.NORMALIZED_SCHEMA`.
        profile: Country profile, which lists the fields of the natural key.
        memory: Memory of the country. The rows are added to it.

    Returns:
        All rows, accepted and in order. A duplicate has the warning `duplicate`, and `duplicate_of` is set.
    """
    columns = columns_of(batch)
    partitions, offsets = columns["source_partition"].to_numpy(), columns["source_offset"].to_numpy()
    keys = natural_keys(columns, profile.duplicate_key)
    origins = memory.first_seen(keys, columns["source_topic"], partitions, offsets)
    if origins.null_count == len(origins):
        return SplitBatch(batch, no_rejects())
    warnings = with_warning(columns["warnings"], ~is_null(origins), Code.DUPLICATE.value)
    columns |= {"duplicate_of": origins, "warnings": warnings}
    return SplitBatch(batch_of(columns, with_extra_columns(NORMALIZED_SCHEMA, batch)), no_rejects())


def with_warning(warnings: pa.ListArray, mask: Mask, warning: str) -> pa.ListArray:
    """Return lists of warnings, with one more warning at the end in the rows where the mask is true."""
    ids = warnings.flatten()
    ends = np.cumsum(warnings.value_lengths().to_numpy() + mask)
    places = np.zeros(ends[-1] if len(ends) else 0, np.bool_)
    places[ends[mask] - 1] = True
    indices = np.where(places, len(ids), np.cumsum(~places) - 1)
    values = pa.concat_arrays([ids, pa.array([warning])]).take(pa.array(indices))
    return pa.ListArray.from_arrays(pa.array(np.append(0, ends), pa.int32()), values)


@dataclass(eq=False)
class FlagDuplicates(StageTransform):
    """Marks CDRs that repeat an earlier one: `warnings` gets `duplicate`, and `duplicate_of` the first one's place.

    In: `pa.RecordBatch` of `cdr.NORMALIZED_SCHEMA`. Out: StageOutput of accepted batches (the same schema) and
    dead letters (only `internal_error`, a bug). Each row goes to exactly one of the two, and rows keep their order. No
    row is dropped. Flagged rows are counted.

    A row is flagged if its natural key was among the last `window` rows of its country in its worker process. Another
    row is flagged by mistake with a probability of 1 in 2^64 for each remembered key. One process handles a partition,
    so all records with the same Kafka key are compared. A record that is read again is not a duplicate of itself. The
    memory belongs to the process: it is empty when a worker starts.

    Attributes:
        profiles: Country profiles by code. `duplicate_key` of a profile lists the fields of the natural key.
        window: Number of rows of a country for which a key is remembered; each takes 84 bytes of memory.
        job: ID that separates the memories of jobs in one process.
    """

    stage = Stage.ENRICH

    profiles: Mapping[str, CountryProfile]
    window: int
    job: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        """Check the configuration."""
        super().__post_init__()
        if self.window < 1:
            raise ValueError(f"window must be at least 1 row, not {self.window}")

    @property
    def counted_as(self) -> str:
        """The step's name in the worker's metrics."""
        return DUPLICATES_STEP

    def prepare(self) -> Split:
        """Return the function over a batch."""

        def flag(batch: pa.RecordBatch, profile: CountryProfile) -> SplitBatch:
            memory = memory_of(self.job, profile.code, self.window)
            outcome = flag_duplicates(batch, profile, memory)
            duplicates = outcome.accepted.column("duplicate_of")
            if duplicates.null_count < len(duplicates):
                count(DUPLICATE, profile.code, rows=len(duplicates) - duplicates.null_count)
            return outcome

        return by_country(flag, self.profiles)
