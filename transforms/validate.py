"""ValidateCdrs: texts that keep every rule become typed columns, the others dead letters that list all broken rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import apache_beam as beam
import polars as pl
import pyarrow as pa

from schemas.cdr import VALIDATED_SCHEMA
from schemas.codes import Stage
from schemas.country import CountryProfile
from schemas.raw import RawFormat
from transforms.batches import SplitBatch, batch_of, frame_of
from transforms.rejects import Violation, dead_letters, no_rejects
from transforms.rules import COUNTS, RULES
from transforms.stage import StageOutput, by_country, split_stage
from transforms.times import parse_event_times

# One bit a rule: the rows of a batch break few different sets of rules.
_BROKEN_BITS = pl.sum_horizontal(
    [rule.broken.fill_null(False).cast(pl.UInt32) * (1 << index) for index, rule in enumerate(RULES)]
).alias("broken")


def validate_batch(batch: pa.RecordBatch, profile: CountryProfile) -> SplitBatch:
    """Check every rule of every row, and give counts and times their types.

    Args:
        batch: rows of `schemas.cdr.DECODED_SCHEMA`.
        profile: gives the zone of times without an offset.

    Returns:
        Accepted rows as `schemas.cdr.VALIDATED_SCHEMA`, in order; a rejected row's codes are all rules it breaks, in
        the order of `transforms.rules.RULES`.
    """
    frame = frame_of(batch)
    times = parse_event_times(frame["event_time"], profile.time_zone)
    frame = frame.with_columns(
        # Pipe text has no time of its own: the Kafka timestamp stands in.
        pl.when(pl.col("raw_format") == RawFormat.PIPE_TEXT.value)
        .then("source_timestamp")
        .otherwise(times)
        .alias("parsed_time"),
        *(pl.col(name).cast(pl.Int64, strict=False).alias(f"parsed_{name}") for name in COUNTS),
    )
    broken = frame.select(_BROKEN_BITS).to_series()
    is_rejected = broken > 0
    rejected = no_rejects()
    if is_rejected.any():
        violations = [_violations(bits) for bits in broken.filter(is_rejected)]
        rejected = dead_letters(frame.filter(is_rejected), Stage.VALIDATE, violations)
        frame = frame.filter(~is_rejected)
    accepted = frame.with_columns(
        # A format without an event type reports data usage.
        pl.col("event_type").str.to_lowercase().fill_null("data"),
        *(pl.col(f"parsed_{name}").alias(name) for name in COUNTS),
        event_time="parsed_time",
    )
    return SplitBatch(batch_of(accepted, VALIDATED_SCHEMA), rejected)


@lru_cache(maxsize=4096)
def _violations(bits: int) -> tuple[Violation, ...]:
    return tuple(rule.violation for index, rule in enumerate(RULES) if bits >> index & 1)


@dataclass(eq=False)
class ValidateCdrs(beam.PTransform):  # type: ignore[misc]
    """Rejects every row that breaks a rule, with all the rules that it breaks.

    In: `pa.RecordBatch` of `schemas.cdr.DECODED_SCHEMA`, one country a batch. Out: StageOutput of accepted batches
    (`schemas.cdr.VALIDATED_SCHEMA`) and dead letters (`schemas.dead_letter.DEAD_LETTER_SCHEMA`). Every row goes to
    exactly one of the two; order holds. There is no maximum age: replayed records are old.

    Attributes:
        profiles: country profiles by code.
    """

    profiles: Mapping[str, CountryProfile]

    def __post_init__(self) -> None:
        """Name the transform."""
        super().__init__()

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no named tuples of outputs
    def expand(self, batches: beam.PCollection) -> StageOutput:
        """Split each batch into valid rows and dead letters."""
        return split_stage(batches, Stage.VALIDATE, partial(by_country, validate_batch, self.profiles))
