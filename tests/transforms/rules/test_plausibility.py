"""Plausible numbers: the same as the phonenumbers library says, of every region."""

import random

import phonenumbers
import pytest

from orion_beam.countries import all_profiles
from orion_beam.transforms.rules.plausibility import is_plausible

OURS = {code: profile.calling_code for code, profile in all_profiles().items()}


def by_library(number: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return False


def random_numbers(calling_code: str, count: int, seed: int) -> list[str]:
    digits = random.Random(seed)
    return [
        f"+{calling_code}" + "".join(digits.choices("0123456789", k=digits.choice([7, 8, 9, 9, 9, 10, 11])))
        for _ in range(count)
    ]


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_the_library_s_example_numbers_are_plausible(region):
    examples = [phonenumbers.example_number_for_type(region, kind) for kind in range(11)]
    numbers = [phonenumbers.format_number(each, phonenumbers.PhoneNumberFormat.E164) for each in examples if each]
    assert numbers
    assert [is_plausible(number) for number in numbers] == [by_library(number) for number in numbers]


@pytest.mark.parametrize("region", OURS)
def test_plans_agree_with_the_library_on_random_numbers_of_our_countries(region):
    numbers = random_numbers(OURS[region], 2000, seed=1) + random_numbers("44", 50, seed=2)
    expected = [by_library(number) for number in numbers]
    assert any(expected)
    assert not all(expected)
    assert [is_plausible(number) for number in numbers] == expected


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_rows_agree_with_the_library_on_random_numbers_of_every_region(region):
    numbers = random_numbers(str(phonenumbers.country_code_for_region(region)), 2000, seed=3)
    assert [is_plausible(number) for number in numbers] == [by_library(number) for number in numbers]


@pytest.mark.parametrize("number", ["+", "+0033612345678", "+999123456789", "+033612345678"])
def test_a_number_without_a_calling_code_is_not_plausible(number):
    assert not is_plausible(number)
    assert not by_library(number)
