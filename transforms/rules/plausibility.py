"""Plausibility of subscriber numbers by the numbering plans (ITU-T E.164) that libphonenumber keeps.

A number is plausible if the plan of its country calling code assigns numbers of its form. `rules.numbering` checks the
country's own numbers in columns, by an automaton. The others, a few in a hundred, are matched here one by one with
precompiled patterns. Only numbers that the patterns leave open go through the library itself.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache

import phonenumbers

from orion_beam.transforms.arrow.automata import Automaton, automaton_of

_LONGEST_CALLING_CODE = 3
_KINDS = (
    "premium_rate", "toll_free", "shared_cost", "voip", "personal_number", "pager", "uan", "voicemail", "fixed_line",
    "mobile",
)  # fmt: skip


@cache
def plan_automaton(calling_code: str) -> Automaton:
    """Return the automaton that accepts the national significant numbers of a calling code's plan."""
    return automaton_of((plan.general, plan.kinds) for plan in _plans(calling_code))


def is_assigned(calling_code: str, national: str) -> bool:
    """Return whether a calling code's plan assigns a national significant number."""
    return any(plan.matches(national) for plan in _plans(calling_code))


def is_plausible(number: str) -> bool:
    """Return whether the numbering plan of a number, E.164 with +, assigns it."""
    return assigned_number(number)[1]


@lru_cache(maxsize=1 << 16)
def assigned_number(number: str) -> tuple[str, bool]:
    """Return a number, E.164 with +, in the form of its numbering plan, and whether the plan assigns it.

    In an assigned number, a trunk prefix or another prefix that the plan drops is removed. Any other number is returned
    unchanged.
    """
    digits = number[1:]
    # No calling code begins with 0. Without this check "033", read as the number 33, would be France's.
    lengths = range(1, _LONGEST_CALLING_CODE + 1) if not digits.startswith("0") else ()
    for length in lengths:
        calling_code, national = digits[:length], digits[length:]
        for plan in _plans(calling_code):
            prefix = re.match(plan.national_prefix, national) if plan.national_prefix else None
            if prefix and prefix[0]:
                # The library removes a trunk prefix that was written by mistake.
                return by_library(number)
            if plan.matches(national):
                return number, True
    return number, False


def example_numbers(country: str) -> list[str]:
    """Return example numbers of a country's plan (ISO 3166-1 alpha-2): a mobile and a fixed-line one, if any."""
    kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
    examples = [phonenumbers.example_number_for_type(country, kind) for kind in kinds]
    return [phonenumbers.format_number(each, phonenumbers.PhoneNumberFormat.E164) for each in examples if each]


def by_library(text: str, country: str | None = None) -> tuple[str, bool]:
    """Return a number as libphonenumber reads it, and whether it is assigned.

    A number in national form is read as one of `country`. A number that is not assigned is returned as given.
    """
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return text, False
    if not phonenumbers.is_valid_number(number):
        return text, False
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164), True


class _Plan:
    """The numbers of one region. A number must match the general pattern and the pattern of some kind of number."""

    def __init__(self, metadata: phonenumbers.PhoneMetadata) -> None:
        kinds = {getattr(metadata, kind).national_number_pattern for kind in _KINDS if getattr(metadata, kind)}
        self.general = f"(?:{getattr(metadata.general_desc, 'national_number_pattern', 'NA')})"
        self.kinds = f"(?:{'|'.join(sorted(kinds - {None, 'NA'}))})"
        self.national_prefix = metadata.national_prefix_for_parsing
        self._general, self._kinds = re.compile(self.general, re.ASCII), re.compile(self.kinds, re.ASCII)

    def matches(self, national: str) -> bool:
        """Return whether the plan assigns a national significant number."""
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
