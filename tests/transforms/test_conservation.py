"""Rows in are rows accepted plus rows dead-lettered, for every stage, in order, with the bytes that came in."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.chain import chain_of, load_reference
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.derive import avro_schema
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.encode import Wire, encode_batch
from orion_beam.transforms.stage.split import split_isolating
from tests.strategies import ARRIVED, PROFILES, batches_of

WIRE = Wire(single_object_header(avro_schema(UnifiedCdr)))


def assert_rows_are_kept(payloads: list[bytes | None], profile: CountryProfile) -> None:
    batch = raw_batch(profile.code, payloads, keys=payloads, timestamps=ARRIVED)
    offsets = set(range(len(payloads)))
    for stage, split in chain_of(profile, load_reference()).items():
        outcome = split_isolating(split, batch, stage)
        accepted, rejected = rows(outcome.accepted), rows(outcome.rejected)
        assert {letter["code"] for letter in rejected} & {"internal_error"} == set()
        for found in (accepted, rejected):
            order = [row["source_offset"] for row in found]
            assert order == sorted(order)
        kept, lost = ({row["source_offset"] for row in found} for found in (accepted, rejected))
        assert kept | lost == offsets
        assert len(accepted) + len(rejected) == len(offsets)
        for row in accepted:
            assert row["raw_value"] == row["raw_key"] == payloads[row["source_offset"]]
        for letter in rejected:
            assert letter["value"] == letter["key"] == payloads[letter["source_offset"]]
        batch, offsets = outcome.accepted, kept
    encoded = encode_batch(batch, UnifiedCdr, WIRE).accepted
    assert encoded.column("key").to_pylist() == [row["imsi"].encode() for row in rows(batch)]


every_country = pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))


@every_country
@given(data=st.data())
@settings(max_examples=12)
def test_whatever_arrives_is_accepted_or_dead_lettered(data: Any, profile: Any) -> None:
    assert_rows_are_kept(data.draw(batches_of(profile)), profile)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@every_country
@given(data=st.data())
@settings(max_examples=300)
def test_whatever_arrives_many_times_is_accepted_or_dead_lettered(data: Any, profile: Any) -> None:
    assert_rows_are_kept(data.draw(batches_of(profile, 40)), profile)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@given(data=st.data())
@settings(max_examples=1000)
def test_random_bytes_are_accepted_or_dead_lettered(data: Any) -> None:
    profile = PROFILES[data.draw(st.sampled_from(list(PROFILES)))]
    assert_rows_are_kept(data.draw(st.lists(st.none() | st.binary(max_size=300), max_size=20)), profile)
