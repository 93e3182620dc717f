"""The population: valid identities, stable, and the reference data that ships with the package."""

import phonenumbers
import polars as pl
import pytest

from orion_beam.countries import all_profiles
from orion_beam.defaults import REFERENCE_DIRECTORY
from orion_beam.generator import cells_of, subscribers_of
from orion_beam.generator.population import population_of
from orion_beam.generator.reference import (
    CELLS_FILE,
    SUBSCRIBERS_FILE,
    reference_cells,
    reference_subscribers,
)
from orion_beam.schemas.country import CountryProfile

PROFILES = list(all_profiles().values())
every_country = pytest.mark.parametrize("profile", PROFILES, ids=[profile.code for profile in PROFILES])


def luhn_sum(number: str) -> int:
    """Say it another way than the generator does."""
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(number))]
    return sum(value // 10 + value % 10 for value in doubled)


@every_country
def test_identities_are_valid_and_unique(profile: CountryProfile) -> None:
    people = subscribers_of(profile)
    plmns = tuple(plmn for operator in profile.operators for plmn in operator.plmns)
    assert people["imsi"].str.contains(r"^[0-9]{15}$").all()
    assert all(imsi.startswith(plmns) for imsi in people["imsi"])
    some = [phonenumbers.parse("+" + number) for number in people["msisdn"].gather_every(40)]
    assert {phonenumbers.number_type(number) for number in some} == {phonenumbers.PhoneNumberType.MOBILE}
    digits = len(profile.calling_code) + profile.national_digits
    assert (people["msisdn"].str.len_bytes() == digits).all()
    assert all(luhn_sum(imei) % 10 == 0 for imei in people["imei"])
    assert (people["imei"].str.len_bytes() == 15).all()
    assert people["imsi"].n_unique() == people["msisdn"].n_unique() == people["imei"].n_unique() == people.height


@every_country
def test_a_larger_population_starts_with_the_same_people(profile: CountryProfile) -> None:
    assert subscribers_of(profile, 500).equals(subscribers_of(profile, 2_000).head(500))


@every_country
def test_visitors_come_from_other_countries_with_valid_numbers(profile: CountryProfile) -> None:
    population = population_of(profile)
    visitors = population.people[population.home_size :]
    assert not visitors["imsi"].str.head(3).is_in(list(profile.mccs)).any()
    assert visitors["imsi"].str.head(3).n_unique() > 5
    assert visitors["msisdn"].str.contains(r"^[1-9][0-9]{9,14}$").all()


@every_country
def test_cells(profile: CountryProfile) -> None:
    cells = cells_of(profile)
    assert cells.height == cells["cell_id"].n_unique() == 500
    assert (cells["cell_id"].str.len_chars() == 10).all()
    assert set(cells["plmn"]) <= {plmn for operator in profile.operators for plmn in operator.plmns}
    assert cells["place"].n_unique() > 20
    assert cells["lat"].null_count() == cells["lon"].null_count() == 0


def test_shipped_reference_data_is_what_the_generator_makes() -> None:
    advice = "run python -m orion_beam.generator.reference"
    cells = pl.read_csv(REFERENCE_DIRECTORY / CELLS_FILE, schema_overrides={"plmn": pl.String})
    assert cells.equals(reference_cells()), advice
    assert pl.read_parquet(REFERENCE_DIRECTORY / SUBSCRIBERS_FILE).equals(reference_subscribers()), advice
