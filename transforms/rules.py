"""The rules of validation in columns: each says which code it stands for, of which field, and where it is broken.

They accept and refuse exactly what the row types of `schemas/fields.py` do; a property test holds the two together.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.codes import Code, Severity
from schemas.country import CountryProfile
from schemas.fields import EVENT_TYPES, FUTURE_TOLERANCE, MAX_COUNT, RAT_GENERATIONS
from transforms import numbering
from transforms.batches import columns_of
from transforms.formats import all_formats
from transforms.numbering import is_number
from transforms.plausibility import are_plausible
from transforms.plmns import has_known_mcc
from transforms.rejects import Violation
from transforms.texts import (
    Mask,
    index_in,
    is_digits,
    is_null,
    lengths_of,
    mask_of,
    one_of,
    row_by_row,
    starts_with,
    where,
)
from transforms.times import NONE, Times, as_times, parse_event_times

COUNTS = (
    "duration_s",
    "bytes_up",
    "bytes_down",
    "message_length",
    "local_sequence_number",
    "record_sequence_number",
    "cause_for_record_closing",
)
"""The fields that hold whole numbers."""

_FORMATS_WITH_EVENT_TYPE = pa.array([each.name for each in all_formats().values() if each.has_event_type])
_FORMATS_WITHOUT_EVENT_TIME = pa.array([each.name for each in all_formats().values() if not each.has_event_time])
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
        profile: of the country.
        texts: columns of `schemas.cdr.DecodedFields`.
        arrived: source timestamps.
        event_times: instants of the CDRs; where the format has none (pipe text), the Kafka timestamp stands in.
        counts: the fields COUNTS.
    """

    profile: CountryProfile
    texts: Mapping[str, pa.StringArray]
    arrived: Times
    event_times: Times
    counts: Mapping[str, Count]

    @classmethod
    def of(cls, batch: pa.RecordBatch, profile: CountryProfile) -> "DecodedRows":
        """Read times and counts of a batch of `schemas.cdr.DECODED_SCHEMA`."""
        texts = columns_of(batch)
        arrived = as_times(batch.column("source_timestamp"))
        has_no_time = one_of(texts["raw_format"], _FORMATS_WITHOUT_EVENT_TIME)
        event_times = np.where(has_no_time, arrived, parse_event_times(texts["event_time"], profile.time_zone))
        return cls(profile, texts, arrived, event_times, {name: _counts(texts[name]) for name in COUNTS})

    @cached_property
    def msisdns(self) -> pa.StringArray:
        """Subscriber numbers in E.164 with +, null where they are none."""
        return numbering.numbers_among(self.texts["msisdn"], self.profile)

    @cached_property
    def peers(self) -> pa.StringArray:
        """The peers' numbers in E.164 with +, null where they are none."""
        return numbering.numbers_among(self.texts["peer_msisdn"], self.profile)

    @cached_property
    def has_event_type(self) -> Mask:
        """Whether the raw format carries an event type."""
        return one_of(self.texts["raw_format"], _FORMATS_WITH_EVENT_TYPE)


def _counts(texts: pa.StringArray) -> Count:
    if texts.null_count == len(texts):
        return Count(pa.nulls(len(texts), pa.int64()), np.zeros(len(texts), np.bool_))
    nulls = is_null(texts)
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
    """A rule.

    Attributes:
        violation: code, and field.
        broken: says which rows break it.
        source: the standard that it is from, with the clause.
        severity: what it does, unless a profile says otherwise.
        is_fixed: no profile may say otherwise: what comes behind cannot do without.
        clears_field: where it is only warned of, the field becomes null.
    """

    violation: Violation
    broken: Callable[[DecodedRows], Mask]
    source: str
    severity: Severity = Severity.ERROR
    is_fixed: bool = False
    clears_field: bool = False

    @property
    def id(self) -> str:
        """What profiles and warnings call it: the code, with the field where several rules have one code."""
        code, field = self.violation.code, self.violation.field
        return f"{code.value}.{field}" if _RULES_OF_CODE[code] > 1 else code.value


def _missing(field: str, source: str) -> Rule:
    return Rule(
        Violation(Code.MISSING_FIELD, field), lambda rows: is_null(rows.texts[field]), source=source, is_fixed=True
    )


def _unlike(field: str, is_good: Callable[[pa.StringArray], Mask]) -> Callable[[DecodedRows], Mask]:
    return lambda rows: ~is_null(rows.texts[field]) & ~is_good(rows.texts[field])


def _digits(shortest: int, longest: int) -> Callable[[pa.StringArray], Mask]:
    def is_good(texts: pa.StringArray) -> Mask:
        lengths = lengths_of(texts)
        return is_digits(texts) & (lengths >= shortest) & (lengths <= longest)

    return is_good


def _no_count(field: str) -> Rule:
    violation = Violation(Code.INVALID_NUMBER, field)
    return Rule(violation, lambda rows: rows.counts[field].is_broken, source=_DESIGN, clears_field=True)


def _is_event_type_unknown(rows: DecodedRows) -> Mask:
    return rows.has_event_type & ~one_of(pc.ascii_lower(rows.texts["event_type"]), _EVENT_TYPES)


def _is_in_the_future(rows: DecodedRows) -> Mask:
    is_known: Mask = (rows.event_times != NONE) & (rows.arrived != NONE)
    return is_known & (rows.event_times > rows.arrived + _FUTURE_TOLERANCE_MS)


def _ends_after_arrival(rows: DecodedRows) -> Mask:
    durations_s = rows.counts["duration_s"].values
    if durations_s.null_count == len(durations_s):
        return np.zeros(len(durations_s), np.bool_)
    # Where the arrival stands in for the event time, nothing is known of when the event began; one that has yet to
    # begin is the matter of another rule.
    has_begun = ~is_null(rows.texts["event_time"]) & (rows.event_times != NONE) & (rows.arrived != NONE)
    has_begun &= ~_is_in_the_future(rows)
    longest_ms = np.where(has_begun, rows.arrived + _FUTURE_TOLERANCE_MS - rows.event_times, 0)
    # Compared in seconds: a count's milliseconds may need more than 64 bits.
    is_longer = mask_of(pc.greater(durations_s, pa.array(longest_ms // 1000)))
    both: Mask = has_begun & is_longer
    return both


def _is_late(rows: DecodedRows) -> Mask:
    is_known: Mask = (rows.event_times != NONE) & (rows.arrived != NONE)
    return is_known & (rows.event_times < rows.arrived - rows.profile.late_after_s * 1000)


def _fails_luhn(rows: DecodedRows) -> Mask:
    imeis = rows.texts["imei"]
    return ~is_null(imeis) & _digits(15, 15)(imeis) & ~numbering.has_luhn_digit(imeis)


def _has_unknown_mcc(rows: DecodedRows) -> Mask:
    imsis = rows.texts["imsi"]
    return _digits(14, 15)(imsis) & ~is_null(imsis) & ~has_known_mcc(imsis) & ~_is_of_test_network(rows)


def _is_of_test_network(rows: DecodedRows) -> Mask:
    imsis = rows.texts["imsi"]
    return starts_with(imsis, b"001") | starts_with(imsis, b"999")


def _is_short_code(rows: DecodedRows) -> Mask:
    peers = rows.texts["peer_msisdn"]
    lengths = lengths_of(peers)
    return ~is_null(peers) & is_digits(peers) & (lengths >= 2) & (lengths <= 6)


def _is_beyond_32_bits(field: str) -> Rule:
    def broken(rows: DecodedRows) -> Mask:
        return mask_of(pc.greater(rows.counts[field].values, _LARGEST_32_BIT_COUNT))

    return Rule(Violation(Code.COUNTER_BEYOND_32_BITS, field), broken, source=_TS_32_298, severity=Severity.WARN)


def _warning(code: Code, field: str, broken: Callable[[DecodedRows], Mask], source: str) -> Rule:
    return Rule(Violation(code, field), broken, source=source, severity=Severity.WARN)


_LARGEST_32_BIT_COUNT = 2**32 - 1
_DESIGN = "ORION data model"
_TS_23_003_IMSI = "3GPP TS 23.003 clause 2.2"
_TS_23_003_MSISDN = "3GPP TS 23.003 clause 3.3, ITU-T E.164"
_TS_23_003_IMEI = "3GPP TS 23.003 clause 6.2"
_TS_32_298 = "3GPP TS 32.298 clause 5.1.2.2 (data volumes)"
_E_212 = "ITU-T E.212"

RULES: tuple[Rule, ...] = (
    _missing("imsi", _TS_23_003_IMSI),
    Rule(Violation(Code.INVALID_IMSI, "imsi"), _unlike("imsi", _digits(14, 15)), source=_TS_23_003_IMSI, is_fixed=True),
    _missing("msisdn", _TS_23_003_MSISDN),
    Rule(Violation(Code.INVALID_MSISDN, "msisdn"), _unlike("msisdn", is_number), _TS_23_003_MSISDN, is_fixed=True),
    Rule(Violation(Code.INVALID_IMEI, "imei"), _unlike("imei", _digits(14, 16)), _TS_23_003_IMEI, clears_field=True),
    Rule(Violation(Code.UNKNOWN_EVENT_TYPE, "event_type"), _is_event_type_unknown, _DESIGN, is_fixed=True),
    Rule(
        Violation(Code.UNKNOWN_RAT, "rat"),
        _unlike("rat", lambda rats: rat_indices(rats) >= 0),
        source="3GPP TS 29.274 clause 8.17, TS 29.061 clause 16.4.7.2",
        clears_field=True,
    ),
    *map(_no_count, COUNTS),
    Rule(
        Violation(Code.MISSING_FIELD, "event_time"),
        lambda rows: is_null(rows.texts["event_time"]) & (rows.event_times == NONE),
        source=_DESIGN,
        is_fixed=True,
    ),
    Rule(
        Violation(Code.INVALID_TIMESTAMP, "event_time"),
        lambda rows: ~is_null(rows.texts["event_time"]) & (rows.event_times == NONE),
        source="ISO 8601-1:2019, and the spellings of the ORION data model",
        is_fixed=True,
    ),
    Rule(Violation(Code.FUTURE_TIMESTAMP, "event_time"), _is_in_the_future, source=_DESIGN),
    _warning(Code.LUHN_FAILED, "imei", _fails_luhn, "3GPP TS 23.003 annex B"),
    _warning(Code.UNKNOWN_MCC, "imsi", _has_unknown_mcc, _E_212),
    _warning(Code.TEST_IMSI, "imsi", _is_of_test_network, _E_212),
    _warning(
        Code.MSISDN_NOT_PLAUSIBLE,
        "msisdn",
        lambda rows: ~are_plausible(rows.msisdns, rows.profile.calling_code),
        "ITU-T E.164, plans of libphonenumber",
    ),
    _warning(
        Code.PEER_NOT_PLAUSIBLE,
        "peer_msisdn",
        lambda rows: ~are_plausible(rows.peers, rows.profile.calling_code),
        "ITU-T E.164, plans of libphonenumber",
    ),
    _warning(Code.PEER_SHORT_CODE, "peer_msisdn", _is_short_code, "ITU-T E.164 (national use only)"),
    _warning(
        Code.PEER_TEST_NUMBER,
        "peer_msisdn",
        lambda rows: numbering.are_test_numbers(rows.peers),
        "national numbering plans (ARCEP, Ofcom, NANPA)",
    ),
    _warning(Code.SAME_PARTY, "peer_msisdn", lambda rows: mask_of(pc.equal(rows.msisdns, rows.peers)), _DESIGN),
    _warning(
        Code.ZERO_DURATION, "duration_s", lambda rows: mask_of(pc.equal(rows.counts["duration_s"].values, 0)), _DESIGN
    ),
    _warning(Code.ENDS_AFTER_ARRIVAL, "duration_s", _ends_after_arrival, _DESIGN),
    _is_beyond_32_bits("bytes_up"),
    _is_beyond_32_bits("bytes_down"),
    _warning(Code.LATE, "event_time", _is_late, _DESIGN),
)
"""In the order in which a dead letter, or the warnings of a CDR, lists them."""

_RULES_OF_CODE = Counter(rule.violation.code for rule in RULES)
RULES_BY_ID = {rule.id: rule for rule in RULES}


def check_rules(profile: CountryProfile) -> None:
    """Check that a profile switches only rules that there are, and that may be switched.

    Raises:
        ValueError: it does not; names the rule.
    """
    for name, _ in profile.rules:
        if name not in RULES_BY_ID:
            raise ValueError(f"rules.{name}: there is no such rule, see `orion-beam rules`")
        if RULES_BY_ID[name].is_fixed:
            raise ValueError(f"rules.{name}: is always an error: no CDR can do without")


def severity_of(rule: Rule, profile: CountryProfile) -> Severity:
    """Return what a rule does in a country."""
    return dict(profile.rules).get(rule.id, rule.severity)
