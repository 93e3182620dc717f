"""The numbers of subscribers and devices: check digit and type of an IMEI, and the one form of an MSISDN."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.country import CountryProfile
from transforms.automata import STEPS, Automaton, accepts, automaton_of
from transforms.compiled import (
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
from transforms.texts import ZERO, are_digits, begins_with, to_bytes

_PLUS = ord("+")
_IMEI_DIGITS, _TAC_DIGITS = 15, 8
_SHORTEST, _LONGEST = 10, 15


def has_luhn_digit(imeis: pa.StringArray) -> Mask:
    """Say which IMEIs of 15 digits end in their check digit (3GPP TS 23.003 annex B); others may say either."""
    return _has_luhn_digit(texts_of(imeis))


@compiled(TEXTS)
def _has_luhn_digit(imeis: Texts) -> Mask:
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
    """Return the TAC of valid IMEIs: their first eight digits (3GPP TS 23.003 clause 6.2.1); null for null."""
    return column_of(*_first_bytes(texts_of(imeis), _TAC_DIGITS))


@compiled(TEXTS, INT64)
def _first_bytes(texts: Texts, length: int) -> tuple[npt.NDArray[np.int32], Bytes, Bytes]:
    rows = len(texts.offsets) - 1
    offsets, data = np.zeros(rows + 1, np.int32), np.empty(rows * length, np.uint8)
    validity = np.zeros((rows + 7) // 8, np.uint8)
    written = 0
    for row in range(rows):
        if is_valid(texts, row):
            set_valid(validity, row)
            start = texts.offsets[row]
            some = min(length, texts.offsets[row + 1] - start)
            copy_bytes(data, written, texts.data, start, some)
            written += some
        offsets[row + 1] = written
    return offsets, data, validity


def e164(texts: pa.StringArray, profile: CountryProfile) -> pa.StringArray:
    """Return those texts that may be subscriber numbers in one form: + and digits (ITU-T E.164); null for others.

    A number has 10 to 15 digits, perhaps with `+` or `00` before them, which start an international number; a national
    one has the country's trunk prefix and length, or, where there is no trunk prefix, begins with a zero of its own (no
    country code does) and has the country's length; all else is taken for an international number without a prefix.
    """
    if texts.null_count == len(texts):
        return texts
    trunk_prefix = profile.trunk_prefix or ""
    offsets, data, validity, nulls = _e164(
        texts_of(texts),
        to_bytes(profile.calling_code),
        to_bytes(trunk_prefix or "0"),
        len(trunk_prefix),
        profile.national_digits + len(trunk_prefix),
    )
    return column_of(offsets, data, validity, nulls)


@compiled(TEXTS, BYTES, BYTES, INT64, INT64)
def _e164(
    texts: Texts, calling_code: Bytes, national_start: Bytes, trunk_digits: int, national_length: int
) -> tuple[npt.NDArray[np.int32], Bytes, Bytes, int]:
    rows = len(texts.offsets) - 1
    offsets, validity = np.zeros(rows + 1, np.int32), np.zeros((rows + 7) // 8, np.uint8)
    data = np.empty(rows * (1 + len(calling_code) + 2 + _LONGEST), np.uint8)
    written, nulls = 0, 0
    for row in range(rows):
        start, end = int(texts.offsets[row]), int(texts.offsets[row + 1])
        length = end - start
        has_plus = length > 0 and texts.data[start] == _PLUS
        has_zeros = length > 1 and texts.data[start] == ZERO and texts.data[start + 1] == ZERO
        is_number = is_valid(texts, row) and (
            _SHORTEST <= length - has_plus <= _LONGEST or (has_zeros and _SHORTEST + 2 <= length <= _LONGEST + 2)
        )
        if is_number and are_digits(texts.data, start + has_plus, end):
            skipped = 1 if has_plus else 2 if has_zeros else 0
            data[written] = _PLUS
            written += 1
            if length == national_length and not has_zeros and begins_with(texts.data, start, end, national_start):
                skipped = trunk_digits
                copy_bytes(data, written, calling_code, 0, len(calling_code))
                written += len(calling_code)
            copy_bytes(data, written, texts.data, start + skipped, length - skipped)
            written += length - skipped
            set_valid(validity, row)
        else:
            nulls += 1
        offsets[row + 1] = written
    return offsets, data, validity, nulls


def are_test_numbers(numbers: pa.StringArray) -> Mask:
    """Say which numbers, E.164 with +, a regulator keeps for tests or fiction: no subscriber has them."""
    return _are_accepted(texts_of(numbers), *_test_numbers())


@compiled(TEXTS, STEPS, MASK)
def _are_accepted(numbers: Texts, steps: npt.NDArray[np.int32], accepting: Mask) -> Mask:
    mask = np.zeros(len(numbers.offsets) - 1, np.bool_)
    for row in range(len(mask)):
        start, end = numbers.offsets[row], numbers.offsets[row + 1]
        mask[row] = is_valid(numbers, row) and accepts(steps, accepting, numbers.data, start + 1, end)
    return mask


@cache
def _test_numbers() -> Automaton:
    with _TEST_NUMBERS.open(encoding="utf-8", newline="") as file:
        return automaton_of([row["pattern"]] for row in csv.DictReader(file))


_TEST_NUMBERS = Path(__file__).parent / "data" / "test_numbers.csv"
