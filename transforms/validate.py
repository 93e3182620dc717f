"""ValidateCdrs: checks rows against the rules. Valid rows get typed columns; the others become dead letters."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orion_beam.schemas.cdr import VALIDATED_SCHEMA
from orion_beam.schemas.codes import Severity, Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import EVENT_TYPES
from orion_beam.schemas.raw_formats.sources import COUNT_FIELDS
from orion_beam.transforms.arrow.texts import if_else, take_texts
from orion_beam.transforms.arrow.times import as_timestamps, plausible_or_null
from orion_beam.transforms.rules.rules import RULES, DecodedRows, severities_of
from orion_beam.transforms.stage.batches import SplitBatch, batch_of, filter_rows
from orion_beam.transforms.stage.rejects import Violation, dead_letters, no_rejects
from orion_beam.transforms.stage.split import Split, StageTransform

__all__ = ["ValidateCdrs", "validate_batch"]


def validate_batch(batch: pa.RecordBatch, profiles: Mapping[str, CountryProfile]) -> SplitBatch:
    """Check every row against every rule, with the severities of its country's profile, and parse counts and times.

    Args:
        batch: Rows of `cdr.DECODED_SCHEMA`.
        profiles: Country profiles by code. They give the zone of times without an offset, and the severity of rules.

    Returns:
        Accepted rows as `cdr.VALIDATED_SCHEMA`, in order. Their `warnings` list the broken rules that only warn. The
        codes of a rejected row are all error rules that it breaks, in the order of `rules.RULES`.
    """
    rows = DecodedRows.of(batch, profiles)
    columns = dict(rows.texts) | {name: rows.counts[name].values for name in COUNT_FIELDS}
    # Bit `index` of a row's value is set if the row breaks rule `index`. A batch has few different sets of bits.
    errors, warnings = np.zeros(batch.num_rows, np.uint64), np.zeros(batch.num_rows, np.uint64)
    by_rule = zip(*(severities_of(profile) for profile in rows.countries.profiles), strict=True)
    for index, (rule, severities) in enumerate(zip(RULES, by_rule, strict=True)):
        if set(severities) == {Severity.OFF} or not (is_broken := rule.broken(rows)).any():
            continue
        for severity, bits in ((Severity.ERROR, errors), (Severity.WARN, warnings)):
            is_meant = is_broken & rows.countries.each([of_country is severity for of_country in severities])
            bits |= is_meant.astype(np.uint64) << np.uint64(index)
            if severity is Severity.WARN and rule.clears_field and is_meant.any():
                columns[rule.violation.field] = if_else(is_meant, None, columns[rule.violation.field])
    # A record without an event type reports data usage.
    columns["event_type"] = take_texts(_EVENT_TYPES, np.where(rows.event_types < 0, _DATA, rows.event_types))
    columns["event_type_inferred"] = pa.array(~rows.has_event_type)
    columns["event_time"] = as_timestamps(rows.event_times)
    if rows.is_arrival_odd.any():
        columns["source_timestamp"] = plausible_or_null(columns["source_timestamp"])
    columns["warnings"] = _warnings(warnings)
    is_kept = errors == 0
    accepted = filter_rows(batch_of(columns, VALIDATED_SCHEMA), is_kept)
    if accepted.num_rows == batch.num_rows:
        return SplitBatch(accepted, no_rejects())
    violations = [_violations(bits) for bits in errors[~is_kept].tolist()]
    return SplitBatch(accepted, dead_letters(filter_rows(batch, ~is_kept), Stage.VALIDATE, violations))


_EVENT_TYPES, _DATA = pa.array(EVENT_TYPES), EVENT_TYPES.index("data")


def _warnings(bits: npt.NDArray[np.uint64]) -> pa.ListArray:
    """Return for each row the IDs of the rules whose bits are set."""
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
class ValidateCdrs(StageTransform):
    """Checks rows against all rules. The country's profile sets whether a broken rule rejects the row or only warns.

    In: `pa.RecordBatch` of `cdr.DECODED_SCHEMA`. Out: StageOutput of accepted batches (`cdr.VALIDATED_SCHEMA`) and dead
    letters (`dead_letter.DEAD_LETTER_SCHEMA`), which list all broken rules. Each row goes to exactly one of the two,
    and rows keep their order. By default an old record gets only a warning, because replayed records are old.

    Attributes:
        profiles: Country profiles by code.
    """

    stage = Stage.VALIDATE

    profiles: Mapping[str, CountryProfile]

    def prepare(self) -> Split:
        """Return the function over a batch."""
        return partial(validate_batch, profiles=self.profiles)
