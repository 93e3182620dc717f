"""The numbers of subscribers and devices: check digit and type of an IMEI, and the one form of an MSISDN."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.country import CountryProfile
from transforms.texts import (
    ZERO,
    Mask,
    buffer_of,
    bytes_of,
    cut,
    is_digits,
    is_null,
    lengths_of,
    mask_of,
    offsets_of,
    starts_with,
    where,
)


def has_luhn_digit(imeis: pa.StringArray) -> Mask:
    """Say which IMEIs of 15 digits end in their check digit (3GPP TS 23.003 annex B); others may say either."""
    mask = np.zeros(len(imeis), np.bool_)
    rows = np.flatnonzero(lengths_of(imeis) == _IMEI_DIGITS)
    places = offsets_of(imeis)[rows] + np.arange(_IMEI_DIGITS)[:, np.newaxis]
    digits = bytes_of(imeis)[places] - np.uint8(ZERO)
    doubled = digits[1::2] * 2
    mask[rows] = (digits[::2].sum(axis=0) + (doubled // 10 + doubled % 10).sum(axis=0)) % 10 == 0
    return mask


def type_allocation_codes(imeis: pa.StringArray) -> pa.StringArray:
    """Return the TAC of valid IMEIs: their first eight digits (3GPP TS 23.003 clause 6.2.1)."""
    starts = offsets_of(imeis)[:-1]
    codes = cut(buffer_of(imeis), starts, np.minimum(starts + _TAC_DIGITS, offsets_of(imeis)[1:]))
    return where(is_null(imeis), None, codes) if imeis.null_count else codes


_IMEI_DIGITS, _TAC_DIGITS = 15, 8


def is_number(texts: pa.StringArray) -> Mask:
    """Say which texts may be subscriber numbers: 10 to 15 digits, perhaps with `+` or `00` before them."""
    lengths = lengths_of(texts)
    has_plus, has_zeros = starts_with(texts, b"+"), starts_with(texts, b"00")
    digits = lengths - has_plus
    is_long_enough = (digits >= 10) & (digits <= 15) | has_zeros & (lengths >= 12) & (lengths <= 17)
    return is_digits(texts, skip=has_plus.astype(np.int32)) & is_long_enough


def e164(numbers: pa.StringArray, profile: CountryProfile) -> pa.StringArray:
    """Return subscriber numbers in one form: + and digits (ITU-T E.164).

    `+` and `00` start an international number; a national one has the country's trunk prefix and length, or, where
    there is no trunk prefix, begins with a zero of its own (no country code does) and has the country's length; all
    else is taken for an international number without a prefix. Each must be null or what `is_number` says may be one.
    """
    has_plus, has_zeros = starts_with(numbers, b"+"), starts_with(numbers, b"00")
    skipped = np.where(has_plus, 1, np.where(has_zeros, 2, 0))
    prefix: pa.Array | pa.Scalar = pa.scalar("+")
    trunk_prefix = profile.trunk_prefix or ""
    is_national = starts_with(numbers, (trunk_prefix or "0").encode()) & ~has_zeros
    is_national &= lengths_of(numbers) == profile.national_digits + len(trunk_prefix)
    if is_national.any():
        skipped = np.where(is_national, len(trunk_prefix), skipped)
        prefix = where(is_national, f"+{profile.calling_code}", "+")
    offsets = offsets_of(numbers)
    digits = cut(buffer_of(numbers), np.minimum(offsets[:-1] + skipped, offsets[1:]), offsets[1:])
    form = pc.binary_join_element_wise(prefix, digits, "")
    return where(is_null(numbers), None, form) if numbers.null_count else form


def numbers_among(texts: pa.StringArray, profile: CountryProfile) -> pa.StringArray:
    """Return those texts that may be subscriber numbers in the one form, null for the others."""
    return texts if texts.null_count == len(texts) else e164(where(is_number(texts), texts, None), profile)


def are_test_numbers(numbers: pa.StringArray) -> Mask:
    """Say which numbers, E.164 with +, a regulator keeps for tests or fiction: no subscriber has them."""
    if numbers.null_count == len(numbers):
        return np.zeros(len(numbers), np.bool_)
    return mask_of(pc.match_substring_regex(numbers, _test_numbers()))


@cache
def _test_numbers() -> str:
    with _TEST_NUMBERS.open(encoding="utf-8", newline="") as file:
        return rf"^\+(?:{'|'.join(row['pattern'] for row in csv.DictReader(file))})$"


_TEST_NUMBERS = Path(__file__).parent / "data" / "test_numbers.csv"
