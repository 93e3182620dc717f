"""Côte d'Ivoire: its golden cases, and what the conformance kit makes of them."""

import phonenumbers
import pyarrow as pa
import pytest

from orion_beam.countries import all_profiles
from orion_beam.transforms.rules.numbering import e164


def test_golden_cases(golden_cases):
    golden_cases("CI")


def test_no_mutation_of_a_case_loses_or_changes_a_row(conformance_kit):
    conformance_kit("CI")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("0701234567", "+2250701234567"),
        ("2250701234567", "+2250701234567"),
        ("002250701234567", "+2250701234567"),
        ("+2250701234567", "+2250701234567"),
        ("2720212345", "+2252720212345"),  # a landline, and no number of South Africa
    ],
)
def test_a_number_keeps_the_zero_that_it_begins_with(sent, expected):
    assert e164(pa.array([sent]), all_profiles()["CI"]).to_pylist() == [expected]


def test_the_mobile_numbers_of_all_operators_are_plausible_to_libphonenumber():
    for number in ("+2250101234567", "+2250501234567", "+2250701234567"):
        parsed = phonenumbers.parse(number)
        assert phonenumbers.number_type(parsed) is phonenumbers.PhoneNumberType.MOBILE
