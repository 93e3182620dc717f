"""Whether subscriber numbers can exist: the numbering plans (ITU-T E.164) that libphonenumber keeps.

A number is plausible if the plan of its country calling code assigns numbers of its form. The country's own numbers are
looked at in columns, by an automaton; the others, a few in a hundred, one by one with patterns that are compiled once.
Only what the patterns leave open goes through the library itself.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import phonenumbers
import pyarrow as pa

from orion_beam.transforms.arrow.automata import STEPS, Automaton, accepts, automaton_of
from orion_beam.transforms.arrow.compiled import BYTES, MASK, TEXTS, Bytes, Mask, Texts, compiled, is_valid, texts_of
from orion_beam.transforms.arrow.texts import begins_with, row_by_row, to_bytes

_LONGEST_CALLING_CODE = 3
_KINDS = (
    "premium_rate", "toll_free", "shared_cost", "voip", "personal_number", "pager", "uan", "voicemail", "fixed_line",
    "mobile",
)  # fmt: skip


def are_plausible(numbers: pa.StringArray, calling_code: str) -> Mask:
    """Say which numbers the numbering plans assign.

    Args:
        numbers: E.164 with +; null is plausible.
        calling_code: of the country whose numbers most of them are.
    """
    mask = _match_plan(texts_of(numbers), to_bytes(calling_code), *plan_automaton(calling_code))
    open_rows = np.flatnonzero(~mask)
    if len(open_rows):
        mask[open_rows] = row_by_row(open_rows, numbers, is_plausible)
    return mask


@compiled(TEXTS, BYTES, STEPS, MASK)
def _match_plan(numbers: Texts, calling_code: Bytes, steps: npt.NDArray[np.int32], accepting: Mask) -> Mask:
    """Say which numbers are null, or of the calling code and of its plan."""
    mask = np.ones(len(numbers.offsets) - 1, np.bool_)
    for row in range(len(mask)):
        if is_valid(numbers, row):
            start, end = numbers.offsets[row] + 1, numbers.offsets[row + 1]
            national = start + len(calling_code)
            is_own = begins_with(numbers.data, start, end, calling_code)
            mask[row] = is_own and accepts(steps, accepting, numbers.data, national, end)
    return mask


@cache
def plan_automaton(calling_code: str) -> Automaton:
    """Return what accepts the national significant numbers that a country calling code's plan assigns."""
    return automaton_of((plan.general, plan.kinds) for plan in _plans(calling_code))


def is_assigned(calling_code: str, national: str) -> bool:
    """Say whether a calling code's plan assigns a national significant number."""
    return any(plan.matches(national) for plan in _plans(calling_code))


def is_plausible(number: str) -> bool:
    """Say whether a number, E.164 with +, is one that its numbering plan assigns."""
    return assigned_number(number)[1]


@lru_cache(maxsize=1 << 16)
def assigned_number(number: str) -> tuple[str, bool]:
    """Return a number, E.164 with +, as its numbering plan has it, and whether the plan assigns it.

    Only what the plan assigns changes: a trunk prefix, or another prefix that the plan drops, is left out.
    """
    digits = number[1:]
    # No calling code begins with 0, and as a number "033" would be France's.
    lengths = range(1, _LONGEST_CALLING_CODE + 1) if not digits.startswith("0") else ()
    for length in lengths:
        calling_code, national = digits[:length], digits[length:]
        for plan in _plans(calling_code):
            prefix = re.match(plan.national_prefix, national) if plan.national_prefix else None
            if prefix and prefix[0]:
                # The library takes a trunk prefix for a slip of the writer, and looks behind it.
                return by_library(number)
            if plan.matches(national):
                return number, True
    return number, False


def example_numbers(country: str) -> list[str]:
    """Return a mobile and a fixed-line number of a country's plan (ISO 3166-1 alpha-2), if there is one."""
    kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
    examples = [phonenumbers.example_number_for_type(country, kind) for kind in kinds]
    return [phonenumbers.format_number(each, phonenumbers.PhoneNumberFormat.E164) for each in examples if each]


def by_library(text: str, country: str | None = None) -> tuple[str, bool]:
    """Return a number as the library reads it, in national form that of a country; and whether it is assigned."""
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return text, False
    if not phonenumbers.is_valid_number(number):
        return text, False
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164), True


class _Plan:
    """The numbers of one region: of the general form, and of the form of some kind of number."""

    def __init__(self, metadata: phonenumbers.PhoneMetadata) -> None:
        kinds = {getattr(metadata, kind).national_number_pattern for kind in _KINDS if getattr(metadata, kind)}
        self.general = f"(?:{getattr(metadata.general_desc, 'national_number_pattern', 'NA')})"
        self.kinds = f"(?:{'|'.join(sorted(kinds - {None, 'NA'}))})"
        self.national_prefix = metadata.national_prefix_for_parsing
        self._general, self._kinds = re.compile(self.general, re.ASCII), re.compile(self.kinds, re.ASCII)

    def matches(self, national: str) -> bool:
        """Say whether a national significant number is one of the plan's."""
        return bool(self._kinds.fullmatch(national) and self._general.fullmatch(national))


@cache
def _plans(calling_code: str) -> tuple[_Plan, ...]:
    return tuple(_Plan(metadata) for metadata in _metadata(calling_code) if metadata is not None)


def _metadata(calling_code: str) -> Iterator[phonenumbers.PhoneMetadata | None]:
    code = int(calling_code) if calling_code else 0
    for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code, ()):
        if region == phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY:
            yield phonenumbers.PhoneMetadata.metadata_for_nongeo_region(code)
        else:
            yield phonenumbers.PhoneMetadata.metadata_for_region(region)
