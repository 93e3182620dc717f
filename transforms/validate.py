"""ValidateCdrs: texts that keep every rule become typed columns, the others dead letters that list all broken rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.cdr import VALIDATED_SCHEMA
from schemas.codes import Stage
from schemas.country import CountryProfile
from transforms.batches import SplitBatch, rows_of
from transforms.rejects import Violation, dead_letters, no_rejects
from transforms.rules import COUNTS, RULES, DecodedRows
from transforms.stage import StageOutput, by_country, split_stage
from transforms.times import as_timestamps


def validate_batch(batch: pa.RecordBatch, profile: CountryProfile) -> SplitBatch:
    """Check every rule of every row, and give counts and times their types.

    Args:
        batch: rows of `schemas.cdr.DECODED_SCHEMA`.
        profile: gives the zone of times without an offset.

    Returns:
        Accepted rows as `schemas.cdr.VALIDATED_SCHEMA`, in order; a rejected row's codes are all rules it breaks, in
        the order of `transforms.rules.RULES`.
    """
    rows = DecodedRows.of(batch, profile.time_zone)
    # One bit a rule: the rows of a batch break few different sets of rules.
    broken = np.zeros(batch.num_rows, np.uint32)
    for index, rule in enumerate(RULES):
        broken |= rule.broken(rows).astype(np.uint32) << np.uint32(index)
    columns = dict(rows.texts) | {name: rows.counts[name].values for name in COUNTS}
    # A format without an event type reports data usage.
    columns["event_type"] = pc.ascii_lower(rows.texts["event_type"]).fill_null("data")
    columns["event_time"] = as_timestamps(rows.event_times)
    arrays = [columns[name] for name in VALIDATED_SCHEMA.names]
    is_kept = broken == 0
    accepted = rows_of(pa.RecordBatch.from_arrays(arrays, schema=VALIDATED_SCHEMA), is_kept)
    if accepted.num_rows == batch.num_rows:
        return SplitBatch(accepted, no_rejects())
    violations = [_violations(bits) for bits in broken[~is_kept].tolist()]
    return SplitBatch(accepted, dead_letters(rows_of(batch, ~is_kept), Stage.VALIDATE, violations))


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
