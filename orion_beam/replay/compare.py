"""Comparison of two replays of the same offsets, record by record, in columns."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import polars as pl

from orion_beam.io.files import DEAD_LETTER_DIRECTORY, FINAL_DIRECTORY
from orion_beam.telemetry.masking import mask, mask_field

COORDINATES = ("source_topic", "source_partition", "source_offset")

NOT_COMPARED = {"run_id", "failed_at", "version", "reference_version", *COORDINATES}
"""Fields that are not compared: they name the record, the replay, its time, its version or its reference files."""

_NUMBERS = {"imsi", "msisdn", "imei", "peer_msisdn"}
"""Fields with a subscriber's number; samples show them masked."""

_FINAL, _REFUSED = "final", "refused"
_OF_NEW = "/new"


class DifferenceKind(StrEnum):
    """Kind of difference between the outcomes of a record in the old and the new replay."""

    CHANGED = "changed"
    """Final in both, with another value in a field."""
    NEW_REJECT = "new_reject"
    """Final in the old replay, rejected in the new one."""
    FIXED_REJECT = "fixed_reject"
    """Rejected in the old replay, final in the new one."""
    OTHER_REJECT = "other_reject"
    """Rejected in both, with a code that only one of them has."""


class Difference(NamedTuple):
    """Difference of records of a country; `what` is the name of a field for CHANGED, else a code."""

    kind: DifferenceKind
    country: str
    what: str


class DifferenceSample(NamedTuple):
    """Example of a difference: a record's source, and its old and new value, with subscribers' numbers masked."""

    record: str
    old: str
    new: str


@dataclass
class Comparison:
    """Result of comparing two replays.

    Attributes:
        samples_wanted: Maximum number of samples of each difference.
        records: Number of records that both replays have.
        unmatched: Number of records that only one of the replays has; correct replays have none.
        counts: Number of records with each difference; a record may have several.
        samples: Samples of each difference.
    """

    samples_wanted: int = 3
    records: int = 0
    unmatched: int = 0
    counts: Counter[Difference] = field(default_factory=Counter)
    samples: defaultdict[Difference, list[DifferenceSample]] = field(default_factory=lambda: defaultdict(list))

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.unmatched and not self.counts

    def note(self, difference: Difference, rows: pl.DataFrame) -> None:
        """Count records with a difference, and keep some as samples.

        Args:
            difference: Difference of the records.
            rows: Records, with the columns COORDINATES, `old` and `new`.
        """
        self.counts[difference] += rows.height
        samples = self.samples[difference]
        for topic, partition, offset, *values in (
            rows.select(*COORDINATES, "old", "new").head(self.samples_wanted - len(samples)).iter_rows()
        ):
            old, new = (_readable(difference.what, value) for value in values)
            samples.append(DifferenceSample(f"{topic}[{partition}]@{offset}", old, new))


def compare_replays(old: Path, new: Path, samples: int = 3) -> Comparison:
    """Compare the Parquet output of two replays of the same offsets.

    Memory holds the records of one source partition at a time.

    Args:
        old: Output directory of the old replay, see `orion_beam.io.parquet`.
        new: Output directory of the new replay.
        samples: Maximum number of samples of each difference.
    """
    result = Comparison(samples)
    before, after = _Side(old), _Side(new)
    for topic, partition in sorted(before.partitions() | after.partitions()):
        _compare(before.of(topic, partition), after.of(topic, partition), result)
    return result


class _Rows(NamedTuple):
    final: pl.DataFrame
    dead: pl.DataFrame


class _Side:
    def __init__(self, directory: Path) -> None:
        self._final, self._dead = (_scan(directory / name) for name in (FINAL_DIRECTORY, DEAD_LETTER_DIRECTORY))

    def partitions(self) -> set[tuple[str, int]]:
        found: set[tuple[str, int]] = set()
        for rows in (self._final, self._dead):
            if rows is not None:
                found |= set(rows.select(COORDINATES[:2]).unique().collect().iter_rows())
        return found

    def of(self, topic: str, partition: int) -> _Rows:
        within = (pl.col("source_topic") == topic) & (pl.col("source_partition") == partition)
        final, dead = (
            _empty() if rows is None else rows.filter(within).collect() for rows in (self._final, self._dead)
        )
        return _Rows(_flat(final), dead)


def _scan(directory: Path) -> pl.LazyFrame | None:
    if not any(directory.rglob("*.parquet")):
        return None
    return pl.scan_parquet(directory / "**/*.parquet", hive_partitioning=True)


def _flat(rows: pl.DataFrame) -> pl.DataFrame:
    """Replace the block of each stage of the user's own by its fields, as columns `STAGE.field`."""
    for name, kind in rows.schema.items():
        if isinstance(kind, pl.Struct):
            rows = rows.with_columns(pl.col(name).struct.rename_fields([f"{name}.{each.name}" for each in kind.fields]))
            rows = rows.unnest(name)
    return rows


def _empty() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            "source_topic": pl.String,
            "source_partition": pl.Int32,
            "source_offset": pl.Int64,
            "country": pl.String,
        }
        | {"codes": pl.List(pl.String)}
    )


def _compare(old: _Rows, new: _Rows, result: Comparison) -> None:
    before, after = (pl.concat([rows.final.select(COORDINATES), rows.dead.select(COORDINATES)]) for rows in (old, new))
    result.records += before.join(after, on=COORDINATES, how="semi").height
    result.unmatched += before.join(after, on=COORDINATES, how="anti").height
    result.unmatched += after.join(before, on=COORDINATES, how="anti").height
    _compare_finals(old.final, new.final, result)
    refused = new.dead.join(old.final, on=COORDINATES, how="semi")
    _note_rules(DifferenceKind.NEW_REJECT, refused, result, _FINAL, _REFUSED)
    fixed = old.dead.join(new.final, on=COORDINATES, how="semi")
    _note_rules(DifferenceKind.FIXED_REJECT, fixed, result, _REFUSED, _FINAL)
    both = old.dead.join(new.dead.select(*COORDINATES, pl.col("codes").alias("others")), on=COORDINATES)
    otherwise = both.with_columns(pl.col("codes").list.set_symmetric_difference("others"))
    _note_rules(DifferenceKind.OTHER_REJECT, otherwise, result, _REFUSED, _REFUSED)


def _compare_finals(old: pl.DataFrame, new: pl.DataFrame, result: Comparison) -> None:
    if old.height == 0 or new.height == 0:
        return
    both = old.join(new, on=COORDINATES, suffix=_OF_NEW)
    for name in dict.fromkeys([*old.columns, *new.columns]):
        if name in NOT_COMPARED:
            continue
        # A field that only one version has is compared with null.
        was, now = (
            pl.col(column) if name in frame.columns else pl.lit(None)
            for column, frame in ((name, old), (name + _OF_NEW if name in old.columns else name, new))
        )
        kind = (old if name in old.columns else new).schema[name]
        pair = both.select(
            *COORDINATES, "country", was.cast(kind).alias("old"), now.cast(kind, strict=False).alias("new")
        )
        differs = pair.filter(pl.col("old").ne_missing(pl.col("new")))
        _note_by_country(DifferenceKind.CHANGED, name, differs, result)


def _note_rules(kind: DifferenceKind, letters: pl.DataFrame, result: Comparison, old: str, new: str) -> None:
    rules = letters.select(*COORDINATES, "country", pl.col("codes").list.unique()).explode("codes").drop_nulls("codes")
    rules = rules.with_columns(pl.lit(old).alias("old"), pl.lit(new).alias("new"))
    for (code,), rows in rules.group_by("codes"):
        _note_by_country(kind, str(code), rows, result)


def _note_by_country(kind: DifferenceKind, what: str, rows: pl.DataFrame, result: Comparison) -> None:
    for (country,), some in rows.group_by("country"):
        result.note(Difference(kind, str(country), what), some.sort("source_offset"))


def _readable(name: str, value: object) -> str:
    if value is None:
        return ""
    if name in _NUMBERS:
        return mask(str(value))
    if isinstance(value, str):
        return mask_field(name, value) if "." in name else value
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
