"""Records on a stage's topic: those of this version, of older ones, and of those that a workspace keeps."""

import json
from typing import Any

import pyarrow as pa
import pytest
from pydantic import BaseModel

from orion_beam.schemas.avro_format import fingerprint_digits, single_object_header
from orion_beam.schemas.cdr import EnrichedCdr, NormalizedCdr, ValidatedCdr
from orion_beam.schemas.codes import Stage
from orion_beam.schemas.derive import arrow_schema, avro_schema, default_of
from orion_beam.schemas.older import readable_schemas
from orion_beam.schemas.raw import RAW_MESSAGE_SCHEMA
from orion_beam.transforms.encode import encode_avro
from orion_beam.transforms.stage.stage_decoding import STAGE_MODELS, decode_stage
from orion_beam.transforms.stage.versions import OtherVersionError, refuse_other_versions
from tests.outputs import with_schema
from tests.transforms.chain import normalized, validated

FR = [f"208011234567890;+3361234567{n};;FR-1;4G;{n};2;2026-06-01T11:59:59Z".encode() for n in range(4)]
STAGES = {Stage.VALIDATE: validated, Stage.NORMALIZE: normalized}
OLDER = [
    pytest.param(stage, schema, id=f"{model.__name__}-{fingerprint_digits(schema)}")
    for stage, model in STAGE_MODELS.items()
    for schema in list(readable_schemas(model).values())[1:]
]
# The values do not matter here, so enrichment is left out.
ENRICHMENT = {"roaming": "home", "is_roaming": False, "fraud_score": 0.0, "fraud_reasons": [], "model_version": "m"}


def rows_of(stage: Stage, **options: Any) -> pa.RecordBatch:
    """Rows as the stage has accepted them."""
    model = STAGE_MODELS[stage]
    if stage in STAGES:
        return STAGES[stage]("FR", FR, **options).select(list(model.model_fields))
    rows = normalized("FR", FR, **options).to_pylist()
    filled = dict.fromkeys(model.model_fields) | ENRICHMENT
    return pa.RecordBatch.from_pylist([filled | row for row in rows], schema=arrow_schema(model))


def messages(values: list[bytes | None]) -> pa.RecordBatch:
    rows = [
        {"raw_value": value, "raw_headers": [], "source_topic": "cdr.stage", "source_partition": 3, "source_offset": at}
        for at, value in enumerate(values)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=RAW_MESSAGE_SCHEMA)


def current(rows: pa.RecordBatch, model: type[BaseModel]) -> list[bytes]:
    values: list[bytes] = encode_avro(rows, model, single_object_header(avro_schema(model))).to_pylist()
    return values


@pytest.mark.parametrize("stage", STAGE_MODELS)
@pytest.mark.parametrize("keys", [b"key", b"\xff\xfe"], ids=["text", "no UTF-8"])
def test_records_of_this_version_come_back_unchanged(stage: Stage, keys: bytes) -> None:
    model, rows = STAGE_MODELS[stage], rows_of(stage, keys=[keys] * len(FR))
    records, rejected = decode_stage(messages(current(rows, model)), model)
    assert records.equals(rows)
    assert rejected.num_rows == 0


@pytest.mark.parametrize(("stage", "schema"), OLDER)
def test_records_of_an_older_version_get_the_defaults_of_what_they_lack(stage: Stage, schema: str) -> None:
    model, rows = STAGE_MODELS[stage], rows_of(stage)
    had = {field["name"] for field in json.loads(schema)["fields"]}
    later = {name: default_of(field) for name, field in model.model_fields.items() if name not in had}
    assert later
    # Rows of both versions, in turns, and what is no record of either.
    both = [value for pair in zip(current(rows, model), [with_schema(schema, row) for row in rows.to_pylist()],
                                  strict=True) for value in pair]  # fmt: skip
    records, rejected = decode_stage(messages([*both[:3], b"garbage", *both[3:], None]), model)
    expected = [row for each in rows.to_pylist() for row in (each, each | later)]
    assert records.schema == arrow_schema(model)
    assert records.to_pylist() == expected
    assert rejected.column("source_offset").to_pylist() == [3, len(both) + 1]


def newer(model: type[BaseModel]) -> str:
    """A schema to come: a field more, one less, and one that is narrower."""
    schema = json.loads(avro_schema(model))
    fields = [field for field in schema["fields"] if field["name"] != "cell_id"]
    for field in fields:
        if field["name"] == "bytes_up":
            field["type"] = ["null", "int"]
    return json.dumps(schema | {"fields": [{"name": "slice", "type": "string", "default": ""}, *fields]})


def test_a_record_of_a_newer_version_is_refused_until_its_schema_is_kept() -> None:
    rows = rows_of(Stage.NORMALIZE)
    schema = newer(NormalizedCdr)
    values = messages([with_schema(schema, row | {"slice": "embb"}) for row in rows.to_pylist()])
    with pytest.raises(OtherVersionError, match=r"cdr\.stage\[3\] offset 0: .* a newer one wrote it; upgrade this job"):
        decode_stage(values, NormalizedCdr)
    records, rejected = decode_stage(values, NormalizedCdr, (schema,))
    assert rejected.num_rows == 0
    assert records.to_pylist() == [row | {"cell_id": None} for row in rows.to_pylist()]


def test_a_known_record_of_another_stage_is_a_dead_letter() -> None:
    rows = rows_of(Stage.VALIDATE)
    older = list(readable_schemas(ValidatedCdr).values())[-1]
    strays = [*current(rows, ValidatedCdr)[:1], with_schema(older, rows.to_pylist()[0])]
    refuse_other_versions(messages(strays))
    records, rejected = decode_stage(messages(strays), EnrichedCdr)
    assert (records.num_rows, rejected.num_rows) == (0, 2)


def test_a_record_that_is_cut_off_takes_no_other_with_it() -> None:
    rows = rows_of(Stage.NORMALIZE)
    values = current(rows, NormalizedCdr)
    records, rejected = decode_stage(messages([values[0], values[1][:40], *values[2:]]), NormalizedCdr)
    assert records.column("source_offset").to_pylist() == [0, 2, 3]
    assert rejected.column("source_offset").to_pylist() == [1]
