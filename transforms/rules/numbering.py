"""Numbers of subscribers and devices: normalization of MSISDNs, and check digit and type of IMEIs."""

import csv
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import number_digits
from orion_beam.transforms.arrow.automata import STEPS, accepts
from orion_beam.transforms.arrow.compiled import (
    BYTES,
    INT64,
    MASK,
    TEXTS,
    Bytes,
    Mask,
    Texts,
    column_of,
    compiled,
    copy_bytes,
    is_valid,
    set_valid,
    texts_of,
)
from orion_beam.transforms.arrow.texts import ZERO, are_digits, begins_with, mask_of, row_by_row, take_texts, to_bytes
from orion_beam.transforms.rules.plausibility import assigned_number, by_library, is_assigned, plan_automaton

_PLUS = ord("+")
_IMEI_DIGITS, _TAC_DIGITS = 15, 8
_SHORTEST, _LONGEST = 10, 15


def has_luhn_digit(imeis: pa.StringArray) -> Mask:
    """Return which IMEIs of 15 digits end in their check digit (3GPP TS 23.003 annex B).

    The result for any other text is undefined.
    """
    return _has_luhn_digit(texts_of(imeis))


@compiled(TEXTS)
def _has_luhn_digit(imeis: Texts) -> Mask:
    """Return which texts of 15 bytes pass the Luhn check: the sum of digits, every second one doubled, ends in 0."""
    mask = np.zeros(len(imeis.offsets) - 1, np.bool_)
    for row in range(len(mask)):
        start = imeis.offsets[row]
        if imeis.offsets[row + 1] - start != _IMEI_DIGITS:
            continue
        total = 0
        for place in range(_IMEI_DIGITS):
            digit = int(imeis.data[start + place]) - ZERO
            doubled = digit * (1 + place % 2)
            total += doubled - 9 * (doubled > 9)
        mask[row] = total % 10 == 0
    return mask


def type_allocation_codes(imeis: pa.StringArray) -> pa.StringArray:
    """Return the TAC of each valid IMEI: its first eight digits (3GPP TS 23.003 clause 6.2.1); null for a null IMEI."""
    return column_of(*_first_bytes(texts_of(imeis), _TAC_DIGITS))


@compiled(TEXTS, INT64)
def _first_bytes(texts: Texts, length: int) -> tuple[npt.NDArray[np.int32], Bytes, Bytes]:
    """Return the offsets, bytes and validity bitmap of a column of the characters in the first bytes of each text.

    A character that goes beyond `length` bytes is left out, so that the column stays UTF-8: a profile may switch the
    rule off that lets only digits pass.
    """
    rows = len(texts.offsets) - 1
    offsets, data = np.zeros(rows + 1, np.int32), np.empty(rows * length, np.uint8)
    validity = np.zeros((rows + 7) // 8, np.uint8)
    written = 0
    for row in range(rows):
        if is_valid(texts, row):
            set_valid(validity, row)
            start, end = texts.offsets[row], texts.offsets[row + 1]
            some = min(length, end - start)
            while some and start + some < end and texts.data[start + some] & 0xC0 == 0x80:
                some -= 1
            copy_bytes(data, written, texts.data, start, some)
            written += some
        offsets[row + 1] = written
    return offsets, data, validity


class SubscriberNumbers(NamedTuple):
    """Subscriber numbers read from texts.

    Attributes:
        numbers: + and digits (ITU-T E.164); null for a text that is not a subscriber number.
        is_plausible: Whether a numbering plan assigns the number. A text that does not even look like a number counts
            as plausible.
    """

    numbers: pa.StringArray
    is_plausible: Mask


def subscriber_numbers(texts: pa.StringArray, profile: CountryProfile) -> SubscriberNumbers:
    """Return subscriber numbers in E.164 form, from any spelling.

    `fields.number_digits` decides whether a text is a number: 10 to 15 digits after an optional `+` or `00`, which mark
    an international number. A number without them is national if it has the trunk prefix, or if it has the country's
    length and its plan (`rules.plausibility`) assigns it. Any other number is international. A trunk prefix after the
    calling code is dropped. Numbers that the country's own plan assigns are read in columns. The others, a few in a
    hundred, are read one by one.
    """
    if texts.null_count == len(texts):
        return SubscriberNumbers(texts, np.ones(len(texts), np.bool_))
    trunk_prefix = profile.trunk_prefix or ""
    offsets, data, validity, nulls, is_open = _subscriber_numbers(
        texts_of(texts),
        to_bytes(profile.calling_code),
        to_bytes(trunk_prefix),
        profile.national_digits,
        *plan_automaton(profile.calling_code),
    )
    numbers, is_plausible = column_of(offsets, data, validity, nulls), np.ones(len(texts), np.bool_)
    open_rows = np.flatnonzero(is_open)
    if len(open_rows):
        read = row_by_row(open_rows, texts, _reader(profile))
        is_plausible[open_rows] = [each.is_assigned for each in read]
        # Most of these numbers are the digits as written, which the column already holds. Only the others are replaced.
        others = [(row, each.number) for row, each in zip(open_rows.tolist(), read, strict=True) if each.is_other]
        if others:
            rows, found = zip(*others, strict=True)
            places = np.arange(len(texts))
            places[list(rows)] = len(texts) + np.arange(len(rows))
            numbers = take_texts(pa.concat_arrays([numbers, pa.array(found, pa.string())]), places)
    return SubscriberNumbers(numbers, is_plausible)


def e164(texts: pa.StringArray, profile: CountryProfile) -> pa.StringArray:
    """Return the numbers of `subscriber_numbers`."""
    return subscriber_numbers(texts, profile).numbers


@compiled(TEXTS, BYTES, BYTES, INT64, STEPS, MASK)
def _subscriber_numbers(
    texts: Texts,
    calling_code: Bytes,
    trunk_prefix: Bytes,
    national_digits: int,
    steps: npt.NDArray[np.int32],
    accepting: Mask,
) -> tuple[npt.NDArray[np.int32], Bytes, Bytes, int, Mask]:
    """Return the offsets, bytes, validity bitmap and number of nulls of the numbers, and which texts are open.

    A number that the country's own plan assigns is complete. An open text may be another number: its row holds `+` and
    its digits as written, or null. A text that cannot be a number is null and not open.

        texts    0612345678        +33 6...       +44 7...        hello
        numbers  +33612345678      +336...        +447... (open)  null
    """
    rows = len(texts.offsets) - 1
    offsets, validity = np.zeros(rows + 1, np.int32), np.zeros((rows + 7) // 8, np.uint8)
    data = np.empty(rows * (1 + len(calling_code) + _LONGEST), np.uint8)
    is_open = np.zeros(rows, np.bool_)
    written, nulls = 0, 0
    for row in range(rows):
        start, end = int(texts.offsets[row]), int(texts.offsets[row + 1])
        has_plus = start < end and texts.data[start] == _PLUS
        has_zeros = end - start > 1 and texts.data[start] == ZERO and texts.data[start + 1] == ZERO
        first = start + 1 if has_plus else start + 2 if has_zeros else start
        is_like_number = is_valid(texts, row) and are_digits(texts.data, first, end)
        is_number = is_like_number and _SHORTEST <= end - first <= _LONGEST
        national = -1
        if is_number and begins_with(texts.data, first, end, calling_code):
            national = first + len(calling_code)
        elif is_number and first == start and end - start == len(trunk_prefix) + national_digits:
            national = start + len(trunk_prefix) if begins_with(texts.data, start, end, trunk_prefix) else -1
        if national >= 0 and accepts(steps, accepting, texts.data, national, end):
            data[written] = _PLUS
            copy_bytes(data, written + 1, calling_code, 0, len(calling_code))
            written += 1 + len(calling_code)
            copy_bytes(data, written, texts.data, national, end - national)
            written += end - national
            set_valid(validity, row)
        elif is_number:
            is_open[row] = True
            data[written] = _PLUS
            copy_bytes(data, written + 1, texts.data, first, end - first)
            written += 1 + end - first
            set_valid(validity, row)
        else:
            is_open[row] = is_like_number and _SHORTEST <= end - start - has_plus <= _LONGEST
            nulls += 1
        offsets[row + 1] = written
    return offsets, data, validity, nulls, is_open


class _Read(NamedTuple):
    """A text read as a number: the number, whether a plan assigns it, and whether it differs from the written digits.

    The number is None if the text is not one.
    """

    number: str | None
    is_assigned: bool
    is_other: bool


@cache
def _reader(profile: CountryProfile) -> Callable[[str], _Read]:
    """Return a cached function that reads one text of a country."""

    @lru_cache(maxsize=1 << 16)
    def read(text: str) -> _Read:
        number, is_assigned = read_number(text, profile)
        return _Read(number, is_assigned, number != f"+{number_digits(text, profile)}")

    return read


def read_number(text: str, profile: CountryProfile) -> tuple[str | None, bool]:
    """Read a text as a subscriber number. Return it, or None if it is not a number, and whether a plan assigns it."""
    digits = number_digits(text, profile)
    if digits is None:
        return None, False
    calling_code, trunk_prefix = profile.calling_code, profile.trunk_prefix or ""
    is_bare = digits == text
    if (
        is_bare
        and len(digits) == profile.national_digits + len(trunk_prefix)
        and digits.startswith(trunk_prefix or "0")
    ):
        return _of_country(text, digits.removeprefix(trunk_prefix), profile)
    is_national = is_bare and len(digits) == profile.national_digits
    if is_national and is_assigned(calling_code, digits):
        return f"+{calling_code}{digits}", True
    if digits.startswith(calling_code):
        return _of_country(text, digits[len(calling_code) :], profile)
    number, is_known = assigned_number(f"+{digits}")
    # A number that no plan assigns is taken for a national one if it has the country's length.
    return (number, is_known) if is_known or not is_national else (f"+{calling_code}{digits}", False)


def _of_country(text: str, national: str, profile: CountryProfile) -> tuple[str, bool]:
    """Read a national number, with or without trunk prefix, as a number of the country's own plan.

    Return the number and whether a plan assigns it.
    """
    number, is_known = assigned_number(f"+{profile.calling_code}{national}")
    number, is_known = (number, True) if is_known else by_library(text, profile.code)
    if is_known:
        return number, True
    if profile.trunk_prefix and len(national) > profile.national_digits:
        national = national.removeprefix(profile.trunk_prefix)
    for calling_code in profile.overseas_calling_codes:
        if is_assigned(calling_code, national):
            return f"+{calling_code}{national}", True
    return f"+{profile.calling_code}{national}", False


def are_test_numbers(numbers: pa.StringArray) -> Mask:
    """Return which numbers, E.164 with +, a regulator reserves for tests or fiction. No subscriber has such numbers."""
    return mask_of(pc.match_substring_regex(numbers, pattern=_test_numbers()))


@cache
def _test_numbers() -> str:
    """Return the regular expression of all these numbers."""
    with _TEST_NUMBERS.open(encoding="utf-8", newline="") as file:
        return rf"^\+(?:{'|'.join(row['pattern'] for row in csv.DictReader(file))})$"


_TEST_NUMBERS = Path(__file__).parent / "data" / "test_numbers.csv"
