"""Subscriber numbers: one MSISDN in all spellings, or a warning, or refused; never a number of another country.

libphonenumber is the oracle: what its `parse` makes of a text in a region.
"""

import random

import phonenumbers
import pyarrow as pa
import pytest

from orion_beam.countries import all_profiles
from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.rules.numbering import e164, subscriber_numbers, type_allocation_codes
from tests.oracle import international

PROFILES = all_profiles()
every_country = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


def by_library(text: str, region: str | None) -> str | None:
    """Return a text as libphonenumber has it, None if it is no number that a plan assigns."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def by_overseas(text: str, profile: CountryProfile) -> str | None:
    """Return a number in national form that a territory which shares the plan has, by libphonenumber."""
    national = phonenumbers.parse(text, profile.code).national_number if text.strip("0+") else 0
    found = {by_library(f"+{code}{national}", None) for code in profile.overseas_calling_codes} - {None}
    return min(found) if len(found) == 1 else None


def spellings(profile: CountryProfile, seed: int) -> list[str]:
    """Texts of every length from 5 to 17 and prefix of two digits, bare and behind +, 00, calling code or trunk."""
    dice = random.Random(seed)
    texts = []
    for digits in range(5, 18):
        for prefix in range(100):
            text = f"{prefix:02d}" + "".join(dice.choices("0123456789", k=digits - 2))
            texts += [text, f"+{text}", f"00{text}"]
            texts += [f"{start}{profile.calling_code}{text}" for start in ("", "+", "00")]
            texts += [f"0{text}", f"+{profile.calling_code}0{text}"]
    return texts


@every_country
def test_no_spelling_is_taken_for_another_number_than_libphonenumber_takes_it_for(profile):
    texts = spellings(profile, seed=1)
    numbers, is_plausible = subscriber_numbers(pa.array(texts), profile)
    kept = 0
    for text, number, is_fine in zip(texts, numbers.to_pylist(), is_plausible, strict=True):
        if number is None:
            continue
        kept += 1
        national = by_library(text, profile.code)
        if national is not None:
            # Its number; a warning may be given, a number of another country not.
            assert number == national or (not is_fine and number.startswith(f"+{profile.calling_code}")), text
        elif is_fine:
            # No number of the country: one that is written without its prefix, or of a territory that shares the plan.
            digits = text.removeprefix("+") if text.startswith("+") else text.removeprefix("00")
            assert number in (by_library(f"+{digits}", None), by_overseas(text, profile)), text
    assert len(texts) == 10_400
    assert kept > 2_000
    assert numbers.to_pylist() == [international(text, profile) for text in texts]


@every_country
def test_every_valid_number_of_the_country_is_one_number_in_all_its_spellings(profile):
    dice, found = random.Random(2), 0
    for prefix in range(100):
        for _ in range(20):
            national = f"{prefix:02d}" + "".join(dice.choices("0123456789", k=profile.national_digits - 2))
            expected = f"+{profile.calling_code}{national}"
            if by_library(expected, None) != expected:
                continue
            found += 1
            trunk, code = profile.trunk_prefix or "", profile.calling_code
            texts = [f"+{code}{national}", f"00{code}{national}", f"{code}{national}"]
            texts += [f"+{code}{trunk}{national}", f"00{code}{trunk}{national}", f"{code}{trunk}{national}"]
            if len(trunk + national) >= 10:
                texts.append(f"{trunk}{national}")
            assert set(e164(pa.array(texts), profile).to_pylist()) == {expected}, national
    assert found >= 100


@pytest.mark.parametrize(
    ("country", "text", "expected", "is_plausible"),
    [
        # The calling code, then a trunk zero: of our own country and of others.
        ("FR", "+330612345678", "+33612345678", True),
        ("FR", "330612345678", "+33612345678", True),
        ("SN", "+330612345678", "+33612345678", True),
        ("FR", "+4407911123456", "+447911123456", True),
        ("MA", "002120612345678", "+212612345678", True),
        # 00 with too few digits, zeros before a country code, zeros only.
        ("FR", "0033612345", None, False),
        ("TN", "0021620123", None, False),
        ("FR", "+0612345678", None, False),
        ("FR", "+0033612345678", None, False),
        ("FR", "00033612345678", None, False),
        ("FR", "0000000000", None, False),
        ("SN", "0771234567", None, False),
        ("FR", "06123456789", None, False),
        # Ten digits of CI's plan that begin as South Africa's, Morocco's and Somalia's numbers do.
        ("CI", "2721234567", "+2252721234567", True),
        ("CI", "2720212345", "+2252720212345", True),
        ("CI", "2121234567", "+2252121234567", True),
        ("CI", "2522012345", "+2252522012345", True),
        ("CI", "2299999999", "+2252299999999", False),
        ("FR", "4512345678", "+4512345678", False),
        # The overseas ranges of the French plan.
        ("FR", "0692123456", "+262692123456", True),
        ("FR", "+33692123456", "+262692123456", True),
        ("FR", "0033692123456", "+262692123456", True),
        ("FR", "+262692123456", "+262692123456", True),
        ("FR", "0690001234", "+590690001234", True),
        ("FR", "0694201234", "+594694201234", True),
        ("FR", "0696201234", "+596696201234", True),
        # A prefix that a plan has dropped, and a calling code that nobody has.
        ("FR", "+5215512345678", "+5215512345678", False),
        ("FR", "+999123456789", "+999123456789", False),
        ("TN", "20123456", None, True),
        ("FR", "abc", None, True),
        ("FR", "1" * 16, None, True),
    ],
)
def test_a_spelling_is_read_as_its_plan_has_it(country, text, expected, is_plausible):
    numbers = subscriber_numbers(pa.array([None, text, "+33612345678"]), PROFILES[country])
    assert numbers.numbers.to_pylist() == [None, expected, "+33612345678"]
    assert numbers.is_plausible.tolist() == [True, is_plausible, True]


def test_a_type_allocation_code_is_cut_between_characters():
    imeis = ["356938035643809", "1234567é", "1234567é9", "é", "", None]
    codes = type_allocation_codes(pa.array(imeis, pa.string()))
    codes.validate(full=True)
    assert codes.to_pylist() == ["35693803", "1234567", "1234567", "é", "", None]
