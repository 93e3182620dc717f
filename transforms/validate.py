"""ValidateCdrs: texts that keep every rule become typed columns, the others dead letters that list all broken rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.cdr import VALIDATED_SCHEMA
from schemas.codes import Severity, Stage
from schemas.country import CountryProfile
from schemas.fields import EVENT_TYPES
from transforms.batches import SplitBatch, batch_of, rows_of
from transforms.rejects import Violation, dead_letters, no_rejects
from transforms.rules import COUNTS, RULES, DecodedRows, severities_of
from transforms.stage import StageOutput, by_country, split_stage
from transforms.texts import chosen, where
from transforms.times import as_timestamps


def validate_batch(batch: pa.RecordBatch, profile: CountryProfile) -> SplitBatch:
    """Check every rule of every row as the country's profile has it, and give counts and times their types.

    Args:
        batch: rows of `schemas.cdr.DECODED_SCHEMA`.
        profile: gives the zone of times without an offset, and the severity of rules.

    Returns:
        Accepted rows as `schemas.cdr.VALIDATED_SCHEMA`, in order; a rejected row's codes are all rules it breaks, in
        the order of `transforms.rules.RULES`. Rules that only warn are listed in `warnings`.
    """
    rows = DecodedRows.of(batch, profile)
    columns = dict(rows.texts) | {name: rows.counts[name].values for name in COUNTS}
    # One bit a rule: the rows of a batch break few different sets of rules.
    errors, warnings = np.zeros(batch.num_rows, np.uint64), np.zeros(batch.num_rows, np.uint64)
    for index, (rule, severity) in enumerate(zip(RULES, severities_of(profile), strict=True)):
        if severity is Severity.OFF:
            continue
        is_broken = rule.broken(rows)
        bits = errors if severity is Severity.ERROR else warnings
        bits |= is_broken.astype(np.uint64) << np.uint64(index)
        if severity is Severity.WARN and rule.clears_field and is_broken.any():
            columns[rule.violation.field] = where(is_broken, None, columns[rule.violation.field])
    # A format without an event type reports data usage.
    columns["event_type"] = chosen(_EVENT_TYPES, np.where(rows.event_types < 0, _DATA, rows.event_types))
    columns["event_type_inferred"] = pa.array(~rows.has_event_type)
    columns["event_time"] = as_timestamps(rows.event_times)
    columns["warnings"] = _warnings(warnings)
    is_kept = errors == 0
    accepted = rows_of(batch_of(columns, VALIDATED_SCHEMA), is_kept)
    if accepted.num_rows == batch.num_rows:
        return SplitBatch(accepted, no_rejects())
    violations = [_violations(bits) for bits in errors[~is_kept].tolist()]
    return SplitBatch(accepted, dead_letters(rows_of(batch, ~is_kept), Stage.VALIDATE, violations))


_EVENT_TYPES, _DATA = pa.array(EVENT_TYPES), EVENT_TYPES.index("data")


def _warnings(bits: npt.NDArray[np.uint64]) -> pa.ListArray:
    """Return the ids of the rules that each row breaks."""
    rows = np.flatnonzero(bits)
    sets, places = np.unique(bits[rows], return_inverse=True)
    indices = np.zeros(len(bits), np.int64)
    indices[rows] = places + 1
    ids = [[], *([rule.id for index, rule in enumerate(RULES) if int(each) >> index & 1] for each in sets)]
    return pa.array(ids, pa.list_(pa.string())).take(pa.array(indices))


@lru_cache(maxsize=4096)
def _violations(bits: int) -> tuple[Violation, ...]:
    return tuple(rule.violation for index, rule in enumerate(RULES) if bits >> index & 1)


@dataclass(eq=False)
class ValidateCdrs(beam.PTransform):  # type: ignore[misc]
    """Rejects every row that breaks a rule, with all the rules that it breaks; or warns, as the profile has it.

    In: `pa.RecordBatch` of `schemas.cdr.DECODED_SCHEMA`, one country a batch. Out: StageOutput of accepted batches
    (`schemas.cdr.VALIDATED_SCHEMA`) and dead letters (`schemas.dead_letter.DEAD_LETTER_SCHEMA`). Every row goes to
    exactly one of the two; order holds. Old records are never rejected, only warned of: replayed ones are old.

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
