"""Each stage as a PTransform under TestPipeline: what comes out of each of its two outputs, and of which type."""

import json
from functools import partial
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam import coders
from apache_beam.testing.test_pipeline import TestPipeline as LocalPipeline
from apache_beam.testing.util import assert_that

from orion_beam.countries import all_profiles
from orion_beam.defaults import REFERENCE_DIRECTORY
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.codes import Code, Stage
from orion_beam.schemas.derive import avro_schema
from orion_beam.testing import StageRows, equal_batches, raw_batch, rows, run_stage
from orion_beam.transforms.decode import DecodeCdrs, decode_batch
from orion_beam.transforms.encode import EncodeCdrs, Wire, encode_batch
from orion_beam.transforms.enrich import EnrichCdrs, ReferenceData, enrich_batch, operators_of
from orion_beam.transforms.normalize import NormalizeCdrs, normalize_batch
from orion_beam.transforms.reference.reference_files import ReferenceDataError, load_cells, load_subscribers
from orion_beam.transforms.rules.networks import Operators
from orion_beam.transforms.stage.batches import RecordBatchCoder, SplitBatch
from orion_beam.transforms.stage.join_countries import by_country
from orion_beam.transforms.stage.rejects import PAYLOAD_FIELD, Violation, dead_letters, no_rejects
from orion_beam.transforms.stage.split import Split, StageOutput, StageTransform
from orion_beam.transforms.validate import ValidateCdrs, validate_batch
from tests.transforms.chain import ARRIVED, normalized, validated

PROFILES = all_profiles()
CELLS, SUBSCRIBERS = str(REFERENCE_DIRECTORY / "cells.csv"), str(REFERENCE_DIRECTORY / "subscribers.parquet")
REFERENCE = ReferenceData(load_cells(CELLS), load_subscribers(SUBSCRIBERS), Operators(operators_of(PROFILES)))
AVRO = Wire(single_object_header(avro_schema(UnifiedCdr)))

FR = [b"208011234567890;33612345678;;FR-PAR-001;4G;1;2;2026-06-01T10:00:00Z", b"1;2", b"\xff", b"1;;;;;;;"]
SN = [b"IMSI=608011234567890|MSISDN=221771234567|TS=1780308000", None]


def decoded(country: str, payloads: list[Any]) -> pa.RecordBatch:
    return decode_batch(raw_batch(country, payloads, timestamps=ARRIVED), PROFILES[country]).accepted


def enriched(country: str, payloads: list[bytes]) -> pa.RecordBatch:
    return enrich_batch(normalized(country, payloads), PROFILES, REFERENCE).accepted


STAGES = {
    "DecodeCdrs": (
        DecodeCdrs(PROFILES),
        [raw_batch("FR", FR, timestamps=ARRIVED), raw_batch("SN", SN, timestamps=ARRIVED)],
        by_country(decode_batch, PROFILES),
    ),
    "ValidateCdrs": (
        ValidateCdrs(PROFILES),
        [decoded("FR", FR), decoded("SN", SN)],
        partial(validate_batch, profiles=PROFILES),
    ),
    "NormalizeCdrs": (
        NormalizeCdrs(PROFILES),
        [validated("FR", FR[:1]), validated("SN", SN[:1])],
        partial(normalize_batch, profiles=PROFILES),
    ),
    "EnrichCdrs": (
        EnrichCdrs(PROFILES, operators_of(PROFILES), CELLS, SUBSCRIBERS),
        [normalized("FR", FR[:1]), normalized("SN", SN[:1])],
        partial(enrich_batch, profiles=PROFILES, reference=REFERENCE),
    ),
    "EncodeCdrs": (
        EncodeCdrs(UnifiedCdr, AVRO, "replay-7"),
        [enriched("FR", FR[:1]), enriched("SN", SN[:1])],
        partial(encode_batch, model=UnifiedCdr, wire=AVRO, run_id="replay-7"),
    ),
}
every_stage = pytest.mark.parametrize(("transform", "batches", "function"), STAGES.values(), ids=STAGES)


@every_stage
def test_each_output_is_that_of_the_pure_function(transform, batches, function):
    outcomes = [function(batch) for batch in batches]
    with LocalPipeline() as pipeline:
        output = pipeline | beam.Create(batches, reshuffle=False) | transform
        accepted = [outcome.accepted for outcome in outcomes if outcome.accepted.num_rows]
        assert_that(output.accepted, equal_batches(*accepted), label="accepted")
        rejected = [outcome.rejected for outcome in outcomes if outcome.rejected.num_rows]
        assert_that(output.dead_letters, equal_batches(*rejected, ignore=["failed_at"]), label="dead letters")


@every_stage
def test_both_outputs_are_record_batches_with_their_own_coder(transform, batches, function):  # noqa: ARG001
    pipeline = beam.Pipeline()
    output = pipeline | beam.Create(batches, reshuffle=False) | transform
    assert isinstance(output, StageOutput)
    for collection in output:
        assert collection.element_type is pa.RecordBatch
        assert isinstance(coders.registry.get_coder(collection.element_type), RecordBatchCoder)


@every_stage
def test_batches_survive_being_sent_to_another_process(transform, batches, function):
    class Shuffle(beam.PTransform):
        def expand(self, collection: beam.PCollection) -> StageOutput:
            accepted, rejected = collection | transform
            return StageOutput(accepted | "1" >> beam.Reshuffle(), rejected | "2" >> beam.Reshuffle())

    def without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(({k: v for k, v in row.items() if k != "failed_at"} for row in rows), key=str)

    outcomes = [function(batch) for batch in batches]
    shuffled = run_stage(Shuffle(), batches)
    assert without_time(shuffled.accepted) == without_time([row for each in outcomes for row in rows(each.accepted)])
    assert without_time(shuffled.dead_letters) == without_time(
        [row for each in outcomes for row in rows(each.rejected)]
    )


@every_stage
def test_an_empty_batch_brings_nothing_out(transform, batches, function):  # noqa: ARG001
    assert run_stage(transform, [batches[0].slice(0, 0)]) == StageRows([], [])
    assert run_stage(transform, []) == StageRows([], [])


def test_decode_rejects_with_codes_and_keeps_the_rest():
    outcome = run_stage(DecodeCdrs(PROFILES), [raw_batch("FR", FR), raw_batch("SN", SN)])
    assert [row["raw_value"] for row in outcome.accepted] == [FR[0], FR[3], SN[0]]
    assert [(letter["value"], letter["code"]) for letter in outcome.dead_letters] == [
        (FR[1], Code.MALFORMED_PAYLOAD),
        (FR[2], Code.INVALID_ENCODING),
        (None, Code.EMPTY_PAYLOAD),
    ]


def test_validate_rejects_with_all_codes():
    outcome = run_stage(ValidateCdrs(PROFILES), [decoded("FR", FR)])
    assert [row["imsi"] for row in outcome.accepted] == ["208011234567890"]
    assert [letter["codes"] for letter in outcome.dead_letters] == [["invalid_imsi", "missing_field", "missing_field"]]


def test_the_whole_chain_makes_of_one_line_one_message():
    class Chain(beam.PTransform):
        def expand(self, batches: beam.PCollection) -> StageOutput:
            letters = []
            for transform, _, _ in STAGES.values():
                batches, rejected = batches | transform
                letters.append(rejected)
            return StageOutput(batches, letters | beam.Flatten())

    outcome = run_stage(Chain(), [raw_batch("FR", FR, timestamps=ARRIVED)])
    assert [(row["key"], row["country"]) for row in outcome.accepted] == [(b"208011234567890", "FR")]
    assert sorted(letter["code"] for letter in outcome.dead_letters) == [
        "invalid_encoding", "invalid_imsi", "malformed_payload",
    ]  # fmt: skip


def test_a_country_without_a_profile_is_an_internal_error_and_no_end():
    outcome = run_stage(DecodeCdrs({"FR": PROFILES["FR"]}), [raw_batch("SN", SN), raw_batch("FR", FR[:1])])
    assert [letter["code"] for letter in outcome.dead_letters] == ["internal_error"] * 2
    assert [row["imsi"] for row in outcome.accepted] == ["208011234567890"]


def test_reference_data_that_cannot_be_read_stops_the_stage():
    broken = EnrichCdrs(PROFILES, {}, "/nowhere/cells.csv", SUBSCRIBERS)
    with pytest.raises((ReferenceDataError, RuntimeError), match="/nowhere/cells.csv"):
        run_stage(broken, [normalized("FR", FR[:1])])


def _reject_b(batch: pa.RecordBatch) -> SplitBatch:
    if b"bug" in batch.column("raw_value").to_pylist():
        raise ValueError("bug")
    is_b = [value == b"b" for value in batch.column("raw_value").to_pylist()]
    rejected = batch.filter(pa.array(is_b))
    reasons = [(Violation(Code.MALFORMED_PAYLOAD, PAYLOAD_FIELD),)] * rejected.num_rows
    letters = dead_letters(rejected, Stage.DECODE, reasons) if rejected.num_rows else no_rejects()
    return SplitBatch(batch.filter(pa.array([not each for each in is_b])), letters)


class _OwnStage(StageTransform):
    stage = Stage.DECODE

    def prepare(self) -> Split:
        return _reject_b


def test_a_stage_of_ones_own_needs_a_pure_function_only():
    outcome = run_stage(_OwnStage(), [raw_batch("FR", [b"a", b"b", b"bug", b"c"])])
    assert [row["raw_value"] for row in outcome.accepted] == [b"a", b"c"]
    assert [(letter["value"], letter["code"]) for letter in outcome.dead_letters] == [
        (b"b", "malformed_payload"),
        (b"bug", "internal_error"),
    ]


def test_the_matcher_tells_batches_apart():
    batch = raw_batch("FR", [b"a", b"b"])
    match = equal_batches(batch)
    match([raw_batch("FR", [b"x", b"a", b"b"], first_offset=-1).slice(1)])
    for wrong in ([], [batch, batch], [raw_batch("FR", [b"b", b"a"])], [batch.slice(1)]):
        with pytest.raises(Exception, match="batches differ"):
            match(wrong)
    equal_batches(rows(raw_batch("FR", [b"b", b"a"])), ignore=["raw_value"])([batch])


def test_an_encoded_json_value_is_an_object():
    outcome = run_stage(EncodeCdrs(UnifiedCdr, Wire(None)), [enriched("FR", FR[:1])])
    assert json.loads(outcome.accepted[0]["value"])["imsi"] == "208011234567890"
