"""A million records of the generator, faults and mutations included: the columnar chain says what the oracle says.

Hypothesis looks for what nobody thought of, a few records at a time; here are whole batches, as feeds have them. Each
slice is a test of its own, so that progress shows, and any can be run again alone.
"""

import random

import pytest

from orion_beam.countries import all_profiles
from orion_beam.generator import generate_batches
from orion_beam.schemas.country import CountryProfile
from tests.agreement import assert_agreement
from tests.strategies import ARRIVED, SPLICES

RECORDS = 1_000_000
SLICES = 8
FAULT_RATE = 0.3
MUTATED_SHARE = 0.4
SWAPPED_SHARE = 0.05
"""Records that come on another country's topic."""

PROFILES = all_profiles()
every_country = pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))


def mutated(payload: bytes, draws: random.Random) -> bytes:
    """Cut some bytes out, or put some in, at a few places."""
    for _ in range(draws.randint(1, 3)):
        start = draws.randint(0, len(payload))
        payload = payload[:start] + draws.choice((b"", *SPLICES)) + payload[start + draws.randint(0, 3) :]
    return payload


def assert_agreement_on_a_slice(profile: CountryProfile, number: int, count: int) -> None:
    """Compare chain and oracle on records of which some are good, some faulty, some mutated, some another country's."""
    draws = random.Random(f"{profile.code} {number}")
    seen = 0
    strangers = [each for each in PROFILES.values() if each is not profile]
    sources = [(profile, count - round(count * SWAPPED_SHARE)), (draws.choice(strangers), round(count * SWAPPED_SHARE))]
    for source, records in sources:
        for batch in generate_batches(source, records, number, FAULT_RATE, start=ARRIVED, batch_rows=4096):
            payloads = batch.value.to_list()
            for row in range(len(payloads)):
                if payloads[row] and draws.random() < MUTATED_SHARE:
                    payloads[row] = mutated(payloads[row], draws)
            assert_agreement(payloads, batch.timestamp.to_list(), profile)
            seen += len(payloads)
    assert seen == count


@every_country
def test_a_sample_of_the_generator_s_records_gets_the_verdict_of_the_oracle(profile: CountryProfile) -> None:
    assert_agreement_on_a_slice(profile, SLICES, 500)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@every_country
@pytest.mark.parametrize("number", range(SLICES))
def test_a_million_records_get_the_verdict_of_the_oracle(profile: CountryProfile, number: int) -> None:
    assert_agreement_on_a_slice(profile, number, RECORDS // SLICES // len(PROFILES))
