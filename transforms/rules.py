"""The rules of validation in columns: each says which code it stands for, of which field, and where it is broken.

They accept and refuse exactly what the row types of `schemas/fields.py` do; a property test holds the two together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.codes import Code
from schemas.fields import EVENT_TYPES, FUTURE_TOLERANCE, MAX_COUNT, RAT_GENERATIONS
from schemas.raw import RawFormat
from transforms.numbering import is_number
from transforms.rejects import Violation
from transforms.texts import Mask, index_in, is_digits, is_null, lengths_of, one_of, row_by_row, starts_with, where
from transforms.times import NONE, Times, as_times, parse_event_times

COUNTS = ("duration_s", "bytes_up", "bytes_down", "message_length")
"""The fields that hold whole numbers."""

_FORMATS_WITH_EVENT_TYPE = pa.array([RawFormat.FLAT_JSON.value, RawFormat.PIPE_TEXT.value])
_EVENT_TYPES = pa.array(EVENT_TYPES)
_RATS = pa.array(RAT_GENERATIONS)
_FUTURE_TOLERANCE_MS = round(FUTURE_TOLERANCE.total_seconds() * 1000)
_SAFE_DIGITS = 18


class Count(NamedTuple):
    """A field of whole numbers.

    Attributes:
        values: int64, null where the text is null or no count.
        is_broken: which texts are no count.
    """

    values: pa.Int64Array
    is_broken: Mask


@dataclass(frozen=True, eq=False)
class DecodedRows:
    """Decoded texts, and what they say once they are read.

    Attributes:
        texts: columns of `schemas.cdr.DecodedFields`.
        arrived: source timestamps.
        event_times: instants of the CDRs; pipe text has none of its own, so the Kafka timestamp stands in.
        counts: the fields COUNTS.
    """

    texts: Mapping[str, pa.StringArray]
    arrived: Times
    event_times: Times
    counts: Mapping[str, Count]

    @classmethod
    def of(cls, batch: pa.RecordBatch, time_zone: str) -> "DecodedRows":
        """Read times and counts of a batch of `schemas.cdr.DECODED_SCHEMA`."""
        texts = dict(zip(batch.schema.names, batch.columns, strict=True))
        arrived = as_times(batch.column("source_timestamp"))
        is_pipe_text = one_of(texts["raw_format"], pa.array([RawFormat.PIPE_TEXT.value]))
        event_times = np.where(is_pipe_text, arrived, parse_event_times(texts["event_time"], time_zone))
        return cls(texts, arrived, event_times, {name: _counts(texts[name]) for name in COUNTS})


def _counts(texts: pa.StringArray) -> Count:
    nulls = is_null(texts)
    if nulls.all():
        return Count(pa.nulls(len(texts), pa.int64()), np.zeros(len(texts), np.bool_))
    lengths = lengths_of(texts)
    is_read = ~nulls & is_digits(texts) & (lengths > 0)
    is_short = is_read & (lengths <= _SAFE_DIGITS)
    values = pc.if_else(pa.array(is_short), texts, None).cast(pa.int64())
    long_rows = np.flatnonzero(is_read & ~is_short)
    if len(long_rows):
        numbers = values.fill_null(0).to_numpy().copy()
        long_numbers = row_by_row(long_rows, texts, _long_count)
        numbers[long_rows] = [number or 0 for number in long_numbers]
        is_read[long_rows] = [number is not None for number in long_numbers]
        values = pa.array(numbers, mask=~is_read)
    return Count(values, ~nulls & ~is_read)


def _long_count(digits: str) -> int | None:
    # int() refuses thousands of digits.
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= len(str(MAX_COUNT)) and int(digits) <= MAX_COUNT else None


def rat_indices(rats: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return the place of each RAT among `RAT_GENERATIONS`, -1 for one that is not there.

    Letters of either case are alike, and numbers may have zeros before them.
    """
    indices = index_in(pc.ascii_lower(rats), _RATS)
    others = np.flatnonzero((indices < 0) & starts_with(rats, b"0"))
    if len(others):
        indices = indices.copy()
        numbers = rats.take(pa.array(others))
        without_zeros = where(is_digits(numbers), pc.ascii_ltrim(numbers, characters="0"), None)
        indices[others] = index_in(without_zeros, _RATS)
    return indices


@dataclass(frozen=True)
class Rule:
    """A rule: what it is called when it is broken, and where it is."""

    violation: Violation
    broken: Callable[[DecodedRows], Mask]


def _missing(field: str) -> Rule:
    return Rule(Violation(Code.MISSING_FIELD, field), lambda rows: is_null(rows.texts[field]))


def _unlike(field: str, is_good: Callable[[pa.StringArray], Mask], code: Code) -> Rule:
    return Rule(Violation(code, field), lambda rows: ~is_null(rows.texts[field]) & ~is_good(rows.texts[field]))


def _digits(shortest: int, longest: int) -> Callable[[pa.StringArray], Mask]:
    def is_good(texts: pa.StringArray) -> Mask:
        lengths = lengths_of(texts)
        return is_digits(texts) & (lengths >= shortest) & (lengths <= longest)

    return is_good


def _no_count(field: str) -> Rule:
    return Rule(Violation(Code.INVALID_NUMBER, field), lambda rows: rows.counts[field].is_broken)


def _is_event_type_unknown(rows: DecodedRows) -> Mask:
    is_known = one_of(pc.ascii_lower(rows.texts["event_type"]), _EVENT_TYPES)
    return one_of(rows.texts["raw_format"], _FORMATS_WITH_EVENT_TYPE) & ~is_known


def _is_in_the_future(rows: DecodedRows) -> Mask:
    is_known: Mask = (rows.event_times != NONE) & (rows.arrived != NONE)
    return is_known & (rows.event_times > rows.arrived + _FUTURE_TOLERANCE_MS)


RULES: tuple[Rule, ...] = (
    _missing("imsi"),
    _unlike("imsi", _digits(14, 15), Code.INVALID_IMSI),
    _missing("msisdn"),
    _unlike("msisdn", is_number, Code.INVALID_MSISDN),
    _unlike("imei", _digits(14, 16), Code.INVALID_IMEI),
    Rule(Violation(Code.UNKNOWN_EVENT_TYPE, "event_type"), _is_event_type_unknown),
    _unlike("rat", lambda rats: rat_indices(rats) >= 0, Code.UNKNOWN_RAT),
    *map(_no_count, COUNTS),
    Rule(
        Violation(Code.MISSING_FIELD, "event_time"),
        lambda rows: is_null(rows.texts["event_time"]) & (rows.event_times == NONE),
    ),
    Rule(
        Violation(Code.INVALID_TIMESTAMP, "event_time"),
        lambda rows: ~is_null(rows.texts["event_time"]) & (rows.event_times == NONE),
    ),
    Rule(Violation(Code.FUTURE_TIMESTAMP, "event_time"), _is_in_the_future),
)
