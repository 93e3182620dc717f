"""FlagDuplicates: CDRs that came before, by a natural key, are marked and counted; none is dropped."""

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
from orion_beam.transforms.stage.join_countries import by_country
from orion_beam.transforms.stage.rejects import no_rejects
from orion_beam.transforms.stage.split import Split, StageTransform

DUPLICATE = "duplicate"
"""What flagged rows are counted as."""

DUPLICATES_STEP = "flag_duplicates"
"""What the worker's metrics call the transform."""


def natural_keys(columns: Mapping[str, pa.Array], fields: tuple[str, ...]) -> KeyHashes:
    """Return a 64-bit hash of some fields of each row, never 0; null is a value like any other.

    Two different keys have one hash with a chance of 1 in 2^64: among a million remembered keys a row is taken for a
    duplicate wrongly once in 2 * 10^13 rows.
    """
    keys: KeyHashes = np.zeros(len(columns[fields[0]]), np.uint64)
    for seed, name in enumerate(fields):
        column = columns[name]
        # Null adds nothing, so that a field that no row has costs nothing.
        if column.null_count < len(column):
            hashes = pl.Series(column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).hash(seed)
            keys += np.where(is_null(column), np.uint64(0), hashes.to_numpy())
    return np.maximum(keys, np.uint64(1))


class DuplicateMemory:
    """What a process remembers of the CDRs of one country: natural keys, and where each was seen first.

    Threads may share it.
    """

    def __init__(self, window: int) -> None:
        """Take how many rows a key is remembered."""
        self._recent = SeenKeys(window)
        self._numbers: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()

    def first_seen(
        self, keys: KeyHashes, topics: pa.StringArray, partitions: Offsets, offsets: Offsets
    ) -> pa.StringArray:
        """Return for each row that came before where it was seen first, `topic[partition]@offset`; null for others."""
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
        """Return a number for topic and partition of each row, the same in every batch."""
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
    """Return the one memory of a job and country in this process: it outlives DoFns, which Beam makes and drops."""
    with _memories_lock:
        if (job, country) not in _memories:
            _memories[job, country] = DuplicateMemory(window)
        return _memories[job, country]


def flag_duplicates(batch: pa.RecordBatch, profile: CountryProfile, memory: DuplicateMemory) -> SplitBatch:
    """Mark the rows whose natural key was seen before.

    Args:
        batch: rows of `cdr.NORMALIZED_SCHEMA`.
        profile: says which fields are the natural key.
        memory: of the country; it learns the rows.

    Returns:
        All rows, accepted, in order: a duplicate has the warning `duplicate`, and says what it is a `duplicate_of`.
    """
    columns = columns_of(batch)
    partitions, offsets = columns["source_partition"].to_numpy(), columns["source_offset"].to_numpy()
    keys = natural_keys(columns, profile.duplicate_key)
    origins = memory.first_seen(keys, columns["source_topic"], partitions, offsets)
    if origins.null_count == len(origins):
        return SplitBatch(batch, no_rejects())
    warnings = with_warning(columns["warnings"], ~is_null(origins), Code.DUPLICATE.value)
    columns |= {"duplicate_of": origins, "warnings": warnings}
    return SplitBatch(batch_of(columns, NORMALIZED_SCHEMA), no_rejects())


def with_warning(warnings: pa.ListArray, mask: Mask, warning: str) -> pa.ListArray:
    """Return lists of warnings with one more at the end where the mask holds."""
    ids = warnings.flatten()
    ends = np.cumsum(warnings.value_lengths().to_numpy() + mask)
    places = np.zeros(ends[-1] if len(ends) else 0, np.bool_)
    places[ends[mask] - 1] = True
    indices = np.where(places, len(ids), np.cumsum(~places) - 1)
    values = pa.concat_arrays([ids, pa.array([warning])]).take(pa.array(indices))
    return pa.ListArray.from_arrays(pa.array(np.append(0, ends), pa.int32()), values)


@dataclass(eq=False)
class FlagDuplicates(StageTransform):
    """Marks CDRs that came before: `warnings` has `duplicate`, and `duplicate_of` says where the first one was read.

    In: `pa.RecordBatch` of `cdr.NORMALIZED_SCHEMA`. Out: StageOutput of accepted batches (the same schema) and
    dead letters (only `internal_error`, a bug). Every row goes to exactly one of the two; order holds; none is dropped.
    Flagged rows are counted.

    A row is flagged exactly if a row of its country and natural key was among the last `window` rows of that country
    in its worker process, but for a chance of 1 in 2^64 a remembered key. One partition is always handled by one
    process, so whatever has the same Kafka key is compared. A record that is read again is no duplicate of itself.
    The memory is the process's: it begins empty when a worker starts.

    Attributes:
        profiles: country profiles by code; a profile's `duplicate_key` is the natural key.
        window: rows of a country for which a key is remembered; 84 bytes of memory each.
        job: tells apart the memories of jobs that run in one process.
    """

    stage = Stage.NORMALIZE

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
