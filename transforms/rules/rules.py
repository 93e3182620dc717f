"""The validation rules for columns. Each has a code, a field, and a function that finds the rows that break it.

They accept and reject exactly the same values as the types of `schemas/fields.py`; a property test compares the two.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.codes import Code, Severity
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import EVENT_TYPES, FUTURE_TOLERANCE, MAX_COUNT, RAT_GENERATIONS
from orion_beam.schemas.raw_formats.sources import COUNT_FIELDS
from orion_beam.transforms.arrow.compiled import (
    TEXTS,
    Bytes,
    Texts,
    compiled,
    is_valid,
    numbers_of,
    set_valid,
    texts_of,
)
from orion_beam.transforms.arrow.texts import (
    ZERO,
    Mask,
    digit_counts,
    ends_with,
    if_else,
    index_among,
    is_null,
    mask_of,
    starts_with,
)
from orion_beam.transforms.arrow.times import NONE, EventTimes, Times, are_plausible_epochs, as_times, parse_event_times
from orion_beam.transforms.decoders.registry import formats_known_to
from orion_beam.transforms.rules.networks import are_assigned, mobile_country_codes
from orion_beam.transforms.rules.numbering import (
    SubscriberNumbers,
    are_test_numbers,
    has_luhn_digit,
    subscriber_numbers,
)
from orion_beam.transforms.stage.batches import columns_of
from orion_beam.transforms.stage.join_countries import Countries
from orion_beam.transforms.stage.rejects import Violation

_RATS = tuple(RAT_GENERATIONS)
_FUTURE_TOLERANCE_MS = round(FUTURE_TOLERANCE.total_seconds() * 1000)


class CountField(NamedTuple):
    """A field of whole numbers.

    Attributes:
        values: Column of int64; null if the text is null or not a count.
        numbers: The same values as an array, with 0 for null.
        is_read: Whether a text is a count.
        is_broken: Whether a text is not null and not a count.
    """

    values: pa.Int64Array
    numbers: npt.NDArray[np.int64]
    is_read: Mask
    is_broken: Mask


@dataclass(frozen=True, eq=False)
class DecodedRows:
    """Decoded texts with their parsed times, counts and numbers.

    Attributes:
        countries: The rows by country.
        texts: Columns of `cdr.DecodedFields`.
        has_event_type: Whether the record, or its raw format, has an event type.
        arrived: Source timestamps; NONE if null or not plausible.
        is_arrival_odd: Whether a source timestamp is not plausible.
        event_times: Instants of the events. A format without event time (pipe text) uses the Kafka timestamp instead.
        is_ambiguous: Whether an event time is a local time that comes twice.
        counts: The fields COUNT_FIELDS by name.
    """

    countries: Countries
    texts: Mapping[str, pa.StringArray]
    has_event_type: Mask
    arrived: Times
    is_arrival_odd: Mask
    event_times: Times
    is_ambiguous: Mask
    counts: Mapping[str, CountField]

    @classmethod
    def of(cls, batch: pa.RecordBatch, profiles: Mapping[str, CountryProfile]) -> "DecodedRows":
        """Parse times and counts of a batch of `cdr.DECODED_SCHEMA`."""
        countries = Countries.of(batch, profiles)
        texts = columns_of(batch)
        sent = as_times(batch.column("source_timestamp"))
        is_plausible = are_plausible_epochs(sent)
        arrived = np.where(is_plausible, sent, NONE)
        traits = countries.array(texts["raw_format"], _format_traits)
        pieces = countries.pieces(texts["event_time"], _event_times)
        read, is_ambiguous = map(np.concatenate, zip(*pieces, strict=True))
        event_times = np.where(traits & _HAS_NO_EVENT_TIME != 0, arrived, read)
        counts = {name: _counts(texts[name]) for name in COUNT_FIELDS}
        return cls(
            countries=countries,
            texts=texts,
            has_event_type=(traits & _HAS_EVENT_TYPE != 0) | ~is_null(texts["event_type"]),
            arrived=arrived,
            is_arrival_odd=~is_plausible & (sent != NONE),
            event_times=event_times,
            is_ambiguous=is_ambiguous,
            counts=counts,
        )

    @cached_property
    def msisdns(self) -> SubscriberNumbers:
        """Subscriber numbers in E.164 with +; null for a text that is not a number."""
        return self._numbers("msisdn")

    @cached_property
    def peers(self) -> SubscriberNumbers:
        """Numbers of the peers in E.164 with +; null for a text that is not a number."""
        return self._numbers("peer_msisdn")

    def _numbers(self, field: str) -> SubscriberNumbers:
        numbers, are_plausible = zip(*self.countries.pieces(self.texts[field], subscriber_numbers), strict=True)
        return SubscriberNumbers(pa.concat_arrays(numbers), np.concatenate(are_plausible))

    @cached_property
    def mccs(self) -> npt.NDArray[np.int32]:
        """The first three digits of each IMSI as a number; -1 if it does not begin with three digits."""
        return mobile_country_codes(self.texts["imsi"])

    @cached_property
    def event_types(self) -> npt.NDArray[np.int32]:
        """The index of each event type in EVENT_TYPES; -1 if it is null or unknown."""
        return index_among(self.texts["event_type"], EVENT_TYPES)


_HAS_EVENT_TYPE, _HAS_NO_EVENT_TIME = 1, 2


@cache
def _traits_of(profile: CountryProfile) -> tuple[tuple[str, ...], npt.NDArray[np.uint8]]:
    """Return the formats that a profile may name and the traits of each; the last, also index -1, is of no format."""
    formats = formats_known_to(profile)
    traits = [
        _HAS_EVENT_TYPE * each.has_event_type | _HAS_NO_EVENT_TIME * (not each.has_event_time)
        for each in formats.values()
    ]
    return tuple(formats), np.array([*traits, 0], np.uint8)


def _format_traits(names: pa.StringArray, profile: CountryProfile) -> npt.NDArray[np.uint8]:
    formats, traits = _traits_of(profile)
    return traits[index_among(names, formats)]


def _event_times(texts: pa.StringArray, profile: CountryProfile) -> EventTimes:
    return parse_event_times(texts, profile.time_zone, profile.twelve_digit_times)


def _counts(texts: pa.StringArray) -> CountField:
    if texts.null_count == len(texts):
        nothing = np.zeros(len(texts), np.bool_)
        return CountField(pa.nulls(len(texts), pa.int64()), np.zeros(len(texts), np.int64), nothing, nothing)
    numbers, validity, is_read, is_broken = _read_counts(texts_of(texts))
    return CountField(numbers_of(numbers, pa.int64(), validity), numbers, is_read, is_broken)


@compiled(TEXTS)
def _read_counts(texts: Texts) -> tuple[npt.NDArray[np.int64], Bytes, Mask, Mask]:
    """Parse counts. Return numbers, their validity bitmap, and the masks `is_read` and `is_broken` of CountField."""
    rows = len(texts.offsets) - 1
    numbers, validity = np.zeros(rows, np.int64), np.zeros((rows + 7) // 8, np.uint8)
    is_read, is_broken = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
    for row in range(rows):
        if not is_valid(texts, row):
            continue
        start, end = texts.offsets[row], texts.offsets[row + 1]
        number, is_good = 0, end > start
        for place in range(start, end):
            digit = int(texts.data[place]) - ZERO
            # The value is bounded, not the length, because any number of leading zeros is allowed.
            if digit < 0 or digit > 9 or number > (MAX_COUNT - digit) // 10:
                is_good = False
                break
            number = number * 10 + digit
        is_broken[row] = not is_good
        if is_good:
            is_read[row] = True
            numbers[row] = number
            set_valid(validity, row)
    return numbers, validity, is_read, is_broken


def rat_indices(rats: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return the index of each RAT in `RAT_GENERATIONS`; -1 if it is null or unknown.

    Names are compared without regard to case, and numbers may have leading zeros.
    """
    indices = index_among(rats, _RATS)
    others = np.flatnonzero((indices < 0) & starts_with(rats, b"0"))
    if len(others):
        numbers = rats.take(pa.array(others))
        without_zeros = if_else(digit_counts(numbers) > 0, pc.ascii_ltrim(numbers, characters="0"), None)
        indices = indices.copy()
        indices[others] = index_among(without_zeros, _RATS)
    return indices


@dataclass(frozen=True)
class Rule:
    """A validation rule.

    Attributes:
        violation: Code and field.
        broken: Function that returns which rows break the rule.
        source: Standard and clause that the rule comes from.
        severity: Default severity. A country profile may change it.
        is_fixed: Whether profiles may not change the severity, because later stages rely on the rule.
        clears_field: Whether the field becomes null if the rule only warns.
    """

    violation: Violation
    broken: Callable[[DecodedRows], Mask]
    source: str
    severity: Severity = Severity.ERROR
    is_fixed: bool = False
    clears_field: bool = False

    @property
    def id(self) -> str:
        """Name in profiles and warnings: the code, followed by the field if several rules share the code."""
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
        counts = digit_counts(texts)
        mask: Mask = (counts >= shortest) & (counts <= longest)
        return mask

    return is_good


def _no_count(field: str) -> Rule:
    violation = Violation(Code.INVALID_NUMBER, field)
    return Rule(violation, lambda rows: rows.counts[field].is_broken, source=_DESIGN, clears_field=True)


def _is_no_number(rows: DecodedRows) -> Mask:
    return is_null(rows.msisdns.numbers) & ~is_null(rows.texts["msisdn"])


def _is_event_type_unknown(rows: DecodedRows) -> Mask:
    is_unknown: Mask = rows.has_event_type & (rows.event_types < 0)
    return is_unknown


def _is_in_the_future(rows: DecodedRows) -> Mask:
    is_known: Mask = (rows.event_times != NONE) & (rows.arrived != NONE)
    return is_known & (rows.event_times > rows.arrived + _FUTURE_TOLERANCE_MS)


def _ends_after_arrival(rows: DecodedRows) -> Mask:
    durations = rows.counts["duration_s"]
    if not durations.is_read.any():
        return durations.is_read
    # If the arrival replaces the event time, the start of the event is unknown. Another rule checks for an event that
    # begins in the future.
    has_begun = ~is_null(rows.texts["event_time"]) & (rows.event_times != NONE) & (rows.arrived != NONE)
    has_begun &= ~_is_in_the_future(rows)
    longest_ms = np.where(has_begun, rows.arrived + _FUTURE_TOLERANCE_MS - rows.event_times, 0)
    # The comparison is in seconds, because a count in milliseconds may need more than 64 bits.
    is_longer: Mask = has_begun & (durations.numbers > longest_ms // 1000)
    return is_longer


def _is_late(rows: DecodedRows) -> Mask:
    is_known = (rows.event_times != NONE) & (rows.arrived != NONE)
    late_after_ms = rows.countries.each([profile.late_after_s * 1000 for profile in rows.countries.profiles])
    is_late: Mask = is_known & (rows.event_times < rows.arrived - late_after_ms)
    return is_late


def _fails_luhn(rows: DecodedRows) -> Mask:
    imeis = rows.texts["imei"]
    is_failed: Mask = (digit_counts(imeis) == _IMEI_DIGITS) & ~has_luhn_digit(imeis)
    # A device sends its IMEI with the spare digit 0 in place of the check digit.
    return is_failed & ~ends_with(imeis, b"0") if is_failed.any() else is_failed


def _has_unknown_mcc(rows: DecodedRows) -> Mask:
    return _digits(14, 15)(rows.texts["imsi"]) & ~are_assigned(rows.mccs) & ~_is_of_test_network(rows)


def _is_of_test_network(rows: DecodedRows) -> Mask:
    is_test: Mask = (rows.mccs == 1) | (rows.mccs == 999)
    return is_test


def _is_short_code(rows: DecodedRows) -> Mask:
    return _digits(2, 6)(rows.texts["peer_msisdn"])


def _is_beyond_32_bits(field: str) -> Rule:
    def broken(rows: DecodedRows) -> Mask:
        is_beyond: Mask = rows.counts[field].numbers > _LARGEST_32_BIT_COUNT
        return is_beyond

    return Rule(Violation(Code.COUNTER_BEYOND_32_BITS, field), broken, source=_TS_32_298, severity=Severity.WARN)


def _warning(code: Code, field: str, broken: Callable[[DecodedRows], Mask], source: str) -> Rule:
    return Rule(Violation(code, field), broken, source=source, severity=Severity.WARN)


_IMEI_DIGITS = 15
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
    Rule(Violation(Code.INVALID_MSISDN, "msisdn"), _is_no_number, _TS_23_003_MSISDN, is_fixed=True),
    Rule(Violation(Code.INVALID_IMEI, "imei"), _unlike("imei", _digits(14, 16)), _TS_23_003_IMEI, clears_field=True),
    Rule(Violation(Code.UNKNOWN_EVENT_TYPE, "event_type"), _is_event_type_unknown, _DESIGN, is_fixed=True),
    Rule(
        Violation(Code.UNKNOWN_RAT, "rat"),
        _unlike("rat", lambda rats: rat_indices(rats) >= 0),
        source="3GPP TS 29.274 clause 8.17, TS 29.061 clause 16.4.7.2",
        clears_field=True,
    ),
    *map(_no_count, COUNT_FIELDS),
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
    _warning(Code.LUHN_FAILED, "imei", _fails_luhn, "3GPP TS 23.003 clause 6.2.1, annex B"),
    _warning(Code.UNKNOWN_MCC, "imsi", _has_unknown_mcc, _E_212),
    _warning(Code.TEST_IMSI, "imsi", _is_of_test_network, _E_212),
    _warning(
        Code.MSISDN_NOT_PLAUSIBLE,
        "msisdn",
        lambda rows: ~rows.msisdns.is_plausible & ~is_null(rows.msisdns.numbers),
        "ITU-T E.164, plans of libphonenumber",
    ),
    _warning(
        Code.PEER_NOT_PLAUSIBLE,
        "peer_msisdn",
        lambda rows: ~rows.peers.is_plausible,
        "ITU-T E.164, plans of libphonenumber",
    ),
    _warning(Code.PEER_SHORT_CODE, "peer_msisdn", _is_short_code, "ITU-T E.164 (national use only)"),
    _warning(
        Code.PEER_TEST_NUMBER,
        "peer_msisdn",
        lambda rows: are_test_numbers(rows.peers.numbers),
        "national numbering plans (ARCEP, Ofcom, NANPA)",
    ),
    _warning(
        Code.SAME_PARTY,
        "peer_msisdn",
        lambda rows: mask_of(pc.equal(rows.msisdns.numbers, rows.peers.numbers)),
        _DESIGN,
    ),
    _warning(
        Code.ZERO_DURATION,
        "duration_s",
        lambda rows: rows.counts["duration_s"].is_read & (rows.counts["duration_s"].numbers == 0),
        _DESIGN,
    ),
    _warning(Code.ENDS_AFTER_ARRIVAL, "duration_s", _ends_after_arrival, _DESIGN),
    _is_beyond_32_bits("bytes_up"),
    _is_beyond_32_bits("bytes_down"),
    _warning(
        Code.AMBIGUOUS_LOCAL_TIME,
        "event_time",
        lambda rows: rows.is_ambiguous,
        "IANA time zones, ISO 8601-1:2019 (local time)",
    ),
    _warning(
        Code.KAFKA_TIMESTAMP_NOT_PLAUSIBLE,
        "source_timestamp",
        lambda rows: rows.is_arrival_odd,
        "Kafka's record format (milliseconds since the epoch)",
    ),
    _warning(Code.LATE, "event_time", _is_late, _DESIGN),
)
"""All rules, in the order in which a dead letter or the warnings of a CDR list them."""

_RULES_OF_CODE = Counter(rule.violation.code for rule in RULES)
RULES_BY_ID = {rule.id: rule for rule in RULES}


def check_rules(profile: CountryProfile) -> None:
    """Check that a profile changes the severity only of rules that exist and are not fixed.

    Raises:
        ValueError: A rule does not exist or is fixed. The message names the rule.
    """
    for name, _ in profile.rules:
        try:
            check_rule(name)
        except ValueError as error:
            raise ValueError(f"rules.{name}: {error}") from None


def check_rule(name: str) -> None:
    """Check that a country may change the severity of a rule.

    Raises:
        ValueError: The rule does not exist or is fixed.
    """
    if name not in RULES_BY_ID:
        raise ValueError("there is no such rule, see `orion-beam rules`")
    if RULES_BY_ID[name].is_fixed:
        raise ValueError("is always an error and cannot be changed")


def severity_of(rule: Rule, profile: CountryProfile) -> Severity:
    """Return the severity of a rule in a country."""
    return dict(profile.rules).get(rule.id, rule.severity)


@cache
def severities_of(profile: CountryProfile) -> tuple[Severity, ...]:
    """Return the severity of each of RULES in a country."""
    return tuple(severity_of(rule, profile) for rule in RULES)
