"""Batches of several countries: each row is handled as its own country has it, whoever its neighbours are."""

from functools import partial

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as LocalPipeline
from apache_beam.testing.util import assert_that
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.chain import load_reference
from orion_beam.countries import all_profiles
from orion_beam.generator import generate_batches
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.codes import Severity
from orion_beam.testing import equal_batches, raw_batch
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.encode import Wire, encode_batch
from orion_beam.transforms.enrich import enrich_batch
from orion_beam.transforms.normalize import normalize_batch
from orion_beam.transforms.stage.batches import SplitBatch, batch_of, columns_of, concat_batches
from orion_beam.transforms.stage.join_countries import JoinCountries, by_country, parts_of
from orion_beam.transforms.stage.rejects import no_rejects
from orion_beam.transforms.validate import validate_batch

PROFILES = all_profiles()
CHAIN = [
    by_country(decode_batch, PROFILES),
    partial(validate_batch, profiles=PROFILES),
    partial(normalize_batch, profiles=PROFILES),
    partial(enrich_batch, profiles=PROFILES, reference=load_reference()),
    partial(encode_batch, model=UnifiedCdr, wire=Wire(b"")),
]
ROWS = 150


def generated(country: str) -> pa.RecordBatch:
    (batch,) = generate_batches(PROFILES[country], ROWS, seed=3, fault_rate=0.3, batch_rows=ROWS)
    return raw_batch(country, batch.value.to_list(), keys=batch.key.to_list(), timestamps=batch.timestamp.to_list())


RAW = {country: generated(country) for country in PROFILES}


def outputs_of(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    """Return what each stage accepts and rejects."""
    outputs = []
    for split in CHAIN:
        outcome = split(batch)
        batch = outcome.accepted
        outputs += [outcome.accepted, outcome.rejected]
    return outputs


ALONE = {country: outputs_of(batch) for country, batch in RAW.items()}


def without_time(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.drop_columns(["failed_at"]) if "failed_at" in batch.schema.names else batch


def test_the_generated_records_are_accepted_and_rejected_in_every_country():
    for accepted, rejected, *_ in ALONE.values():
        assert 0 < accepted.num_rows < ROWS
        assert rejected.num_rows
    assert all(validated[3].num_rows for validated in ALONE.values())


@given(st.permutations(sorted(PROFILES)), st.integers(1, len(PROFILES)))
def test_what_becomes_of_a_row_does_not_depend_on_the_other_countries_of_its_batch(order: list[str], some: int):
    countries = order[:some]
    together = outputs_of(concat_batches([RAW[country] for country in countries]))
    for place, output in enumerate(together):
        alone = concat_batches([ALONE[country][place] for country in countries])
        assert without_time(output).equals(without_time(alone))


def test_runs_of_one_country_may_come_again():
    first, second = RAW["FR"].slice(0, 70), RAW["FR"].slice(70)
    mixed = outputs_of(concat_batches([first, RAW["TN"], second]))[0]
    assert [country for country, _ in parts_of(mixed)] == ["FR", "TN", "FR"]
    french = pa.Table.from_batches([rows for country, rows in parts_of(mixed) if country == "FR"])
    assert french.equals(pa.Table.from_batches([ALONE["FR"][0]]))


@pytest.mark.parametrize("severity", Severity)
def test_a_rule_is_as_severe_for_each_row_as_its_own_country_has_it(severity: Severity):
    profiles = {"FR": PROFILES["FR"], "TN": PROFILES["TN"].model_copy(update={"rules": (("invalid_imei", severity),)})}
    decoded = []
    for country, profile in profiles.items():
        batch = decode_batch(RAW[country], profile).accepted
        decoded.append(batch_of(columns_of(batch) | {"imei": pa.repeat("12", batch.num_rows)}, batch.schema))

    together = validate_batch(concat_batches(decoded), profiles)

    alone = [validate_batch(batch, profiles) for batch in decoded]
    assert alone[0].accepted.num_rows == 0
    assert (alone[1].accepted.num_rows == 0) == (severity is Severity.ERROR)
    assert together.accepted.equals(concat_batches([outcome.accepted for outcome in alone]))
    assert without_time(together.rejected).equals(without_time(concat_batches([outcome.rejected for outcome in alone])))


def test_the_small_batches_of_a_bundle_are_joined_and_each_country_keeps_its_order():
    tn, fr = RAW["TN"], RAW["FR"]
    batches = [tn.slice(0, 10), fr.slice(0, 20), tn.slice(10), fr.slice(20)]
    with LocalPipeline() as pipeline:
        joint = pipeline | beam.Create(batches, reshuffle=False) | JoinCountries()
        assert_that(joint, equal_batches(concat_batches([fr, tn])))


def test_what_is_large_goes_on_with_what_waits_for_its_bundle(monkeypatch):
    monkeypatch.setattr("orion_beam.transforms.stage.join_countries.JOIN_BELOW_ROWS", ROWS)
    small, large = RAW["TN"].slice(0, 10), RAW["FR"]
    with LocalPipeline() as pipeline:
        joint = pipeline | beam.Create([large, small, large, small], reshuffle=False) | JoinCountries()
        assert_that(joint, equal_batches(large, concat_batches([large, small]), small))


def test_the_rows_of_each_country_get_its_profile():
    seen = []

    def note(batch: pa.RecordBatch, profile: object) -> SplitBatch:
        seen.append((batch.num_rows, profile))
        return SplitBatch(batch, no_rejects())

    whole = concat_batches([raw_batch("SN", [b"x", b"y"]), raw_batch("FR", [b"z"])])
    assert by_country(note, PROFILES)(whole).accepted.equals(whole)
    assert seen == [(2, PROFILES["SN"]), (1, PROFILES["FR"])]
