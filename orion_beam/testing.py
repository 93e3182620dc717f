"""Helpers for tests of transforms and of stages of one's own: make batches, run a stage, compare rows.

Example:
    outcome = run_stage(DecodeCdrs(profiles), [raw_batch("FR", [b"208011234567890;33612345678;;;;;;1780308000"])])
    assert [row["imsi"] for row in outcome.accepted] == ["208011234567890"]
    assert outcome.dead_letters == []
"""

import itertools
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import fastavro
import pyarrow as pa
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import BeamAssertException

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import all_profiles
from orion_beam.custom_stages.code import made_ready, with_description_of
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.custom_stages.run import checked
from orion_beam.schemas.raw import RAW_CDR_SCHEMA
from orion_beam.transforms.stage.batches import RecordBatchCoder

__all__ = [
    "Row",
    "StageRows",
    "batch_after",
    "captured",
    "equal_batches",
    "raw_batch",
    "rows",
    "run_own_stage",
    "run_stage",
]

Row = dict[str, Any]
"""One row of a batch: values by column name."""


class StageRows(NamedTuple):
    """The rows that a stage accepted and those that it rejected, in order."""

    accepted: list[Row]
    dead_letters: list[Row]


def raw_batch(
    country: str,
    payloads: Sequence[bytes | None],
    *,
    keys: Sequence[bytes | None] | None = None,
    headers: Sequence[Mapping[str, bytes | None]] | None = None,
    timestamps: Sequence[datetime | None] | datetime | None = None,
    topic: str | None = None,
    partition: int = 0,
    first_offset: int = 0,
) -> pa.RecordBatch:
    """Return raw messages as ReadRawCdrs emits them: a batch of `raw.RAW_CDR_SCHEMA`, one row for each message.

    Args:
        country: ISO 3166-1 alpha-2 code.
        payloads: Values of the messages.
        keys: Keys of the messages; null by default.
        headers: Headers of the messages; none by default.
        timestamps: Kafka timestamps, one for each message or one for all; null by default.
        topic: Source topic; `cdr.raw.<country>` by default.
        partition: Partition of all messages.
        first_offset: Offset of the first message; the others follow.
    """
    rows = len(payloads)
    if timestamps is None or isinstance(timestamps, datetime):
        timestamps = [timestamps] * rows
    columns = {
        "raw_key": [None] * rows if keys is None else keys,
        "raw_value": payloads,
        "raw_headers": [
            [{"key": key, "value": value} for key, value in each.items()] for each in headers or [{}] * rows
        ],
        "source_topic": [topic or f"cdr.raw.{country}"] * rows,
        "source_partition": [partition] * rows,
        "source_offset": range(first_offset, first_offset + rows),
        "source_timestamp": timestamps,
        "country": [country] * rows,
    }
    arrays = [pa.array(columns[field.name], field.type) for field in RAW_CDR_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW_CDR_SCHEMA)


def captured(folder: Path | str) -> pa.RecordBatch:
    """Read the records that `orion-beam capture` wrote to a country's folder, as ReadRawCdrs emits them."""
    with Path(folder, "messages.avro").open("rb") as file:
        return pa.RecordBatch.from_pylist(list(fastavro.reader(file)), schema=RAW_CDR_SCHEMA)


def rows(batches: pa.RecordBatch | Iterable[pa.RecordBatch]) -> list[Row]:
    """Return the rows of one batch or several, each as a dict from column name to value."""
    several = [batches] if isinstance(batches, pa.RecordBatch) else batches
    return [row for batch in several for row in batch.to_pylist()]


def equal_batches(
    *expected: pa.RecordBatch | Sequence[Row], ignore: Iterable[str] = ()
) -> Callable[[Iterable[pa.RecordBatch]], None]:
    """Return a matcher for Beam's `assert_that` that accepts exactly these batches, in any order.

    The rows within a batch must be in order. The memory layout of a batch (slices, views) makes no difference.

    Args:
        expected: Batches, or their rows as dicts.
        ignore: Columns that are not compared, such as `failed_at`.
    """
    ignored = frozenset(ignore)

    def plain(batch: pa.RecordBatch | Sequence[Row]) -> list[Row]:
        found = rows(batch) if isinstance(batch, pa.RecordBatch) else batch
        return [{name: value for name, value in row.items() if name not in ignored} for row in found]

    def match(actual: Iterable[pa.RecordBatch]) -> None:
        # Beam pickles the matcher many times. That is fast for batches and takes seconds for rows.
        missing, unexpected = [plain(batch) for batch in expected], []
        for batch in map(plain, actual):
            if batch in missing:
                missing.remove(batch)
            else:
                unexpected.append(batch)
        if missing or unexpected:
            raise BeamAssertException(f"batches differ\nmissing: {missing}\nunexpected: {unexpected}")

    return match


def batch_after(stage: str, raw: pa.RecordBatch, stages: Sequence[JobStage] = ()) -> pa.RecordBatch:
    """Run the chain up to a stage, as a job does, and return the rows that it accepts.

    Args:
        stage: Last stage that runs: `validate`, `normalize`, `enrich`, or the name of one of `stages`.
        raw: Raw messages of one country, see `raw_batch`.
        stages: Stages of one's own that run in their places.

    Raises:
        ValueError: The chain has no such stage, or it rejects a row. The message names the codes.
    """
    profile = all_profiles()[raw.column("country")[0].as_py()]
    chain = chain_of(profile, load_reference(), stages)
    if stage not in chain:
        raise ValueError(f"there is no stage {stage}: give one of {', '.join(chain)}")
    names = list(chain)
    outcome = run_chain({name: chain[name] for name in names[: names.index(stage) + 1]}, raw)
    if outcome.rejected.num_rows:
        codes = sorted({code for codes in outcome.rejected.column("codes").to_pylist() for code in codes})
        raise ValueError(f"{outcome.rejected.num_rows} of {raw.num_rows} rows are rejected: {', '.join(codes)}")
    return outcome.accepted


def run_own_stage(
    code: Callable[..., Any],
    batch: pa.RecordBatch,
    *,
    after: str = "enrich",
    options: Mapping[str, Any] | None = None,
    name: str = "own_stage",
) -> StageRows:
    """Run a stage of one's own over a batch, with all checks of a job.

    Args:
        code: Function or class of the stage.
        batch: Rows as the stage `after` accepts them, see `batch_after`.
        after: Stage that it follows.
        options: Options of the stage, as in a job file.
        name: Name of the stage: the first part of its codes and of the columns with its fields.

    Raises:
        UserError: The stage refuses its options, or cannot be declared.
        BrokenContractError: The output breaks the contract of stages: it loses rows, or has columns or codes that are
            not declared.
    """
    place = f"{code.__module__}:{code.__qualname__}"
    fields = {"name": name, "run": place, "after": after, "options": options or {}}
    stage = with_description_of(JobStage.model_validate(fields), code)
    outcome = checked(made_ready(stage, code), stage)(batch)
    return StageRows(rows(outcome.accepted), rows(outcome.rejected))


def run_stage(transform: beam.PTransform, batches: Iterable[pa.RecordBatch]) -> StageRows:
    """Run a stage over batches in a TestPipeline of its own.

    Args:
        transform: A PTransform from batches to `split.StageOutput`.
        batches: Input batches, in this order.
    """
    with tempfile.TemporaryDirectory() as directory:
        with TestPipeline() as pipeline:
            created = pipeline | beam.Create(list(batches), reshuffle=False).with_output_types(pa.RecordBatch)
            for name, output in zip(StageRows._fields, created | transform, strict=True):
                Path(directory, name).mkdir()
                output | f"Collect {name}" >> beam.ParDo(_Collect(f"{directory}/{name}"))
        return StageRows(*(_collected(Path(directory, name)) for name in StageRows._fields))


_number = itertools.count()


class _Collect(beam.DoFn):  # type: ignore[misc]
    """Writes batches to a directory. A runner may pickle the DoFn, so it cannot keep them in memory for the caller."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def process(self, batch: pa.RecordBatch) -> None:
        Path(self._directory, f"{next(_number):012d}").write_bytes(RecordBatchCoder().encode(batch))


def _collected(directory: Path) -> list[Row]:
    return rows(RecordBatchCoder().decode(path.read_bytes()) for path in sorted(directory.iterdir()))
