"""The checked-in Avro schemas are those of the pydantic models."""

import json

import pytest
from fastavro.schema import parse_schema
from pydantic import BaseModel

from orion_beam.schemas.derive import avro_schema, avsc_path
from orion_beam.schemas.write import WRITTEN_MODELS, write_schemas


@pytest.mark.parametrize("model", WRITTEN_MODELS, ids=lambda model: model.__name__)
def test_the_checked_in_schema_is_that_of_the_model(model: type[BaseModel]):
    path = avsc_path(model)
    assert path.is_file(), f"{path} is missing: run `make schemas`"
    assert path.read_text(encoding="utf-8") == avro_schema(model), f"{path} differs from its model: run `make schemas`"


def test_every_checked_in_schema_has_a_model():
    directory = avsc_path(WRITTEN_MODELS[0]).parent
    assert {path.name for path in directory.glob("*.avsc")} == {avsc_path(model).name for model in WRITTEN_MODELS}


@pytest.mark.parametrize("model", WRITTEN_MODELS, ids=lambda model: model.__name__)
def test_fastavro_accepts_every_checked_in_schema(model: type[BaseModel]):
    parse_schema(json.loads(avsc_path(model).read_text(encoding="utf-8")))


def test_writing_the_schemas_makes_missing_files_and_mends_changed_ones(tmp_path):
    write_schemas(tmp_path / "avro")
    (tmp_path / "avro" / "UnifiedCdr.avsc").write_text('"string"', encoding="utf-8")
    write_schemas(tmp_path / "avro")
    for model in WRITTEN_MODELS:
        assert (tmp_path / "avro" / f"{model.__name__}.avsc").read_text(encoding="utf-8") == avro_schema(model)
