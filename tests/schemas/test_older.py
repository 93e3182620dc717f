"""Schemas of older versions: each is kept, listed, and resolves to the schema in use."""

import io
import json
from pathlib import Path

import fastavro
import pytest
from pydantic import BaseModel, Field, create_model

from orion_beam.schema_tools.avro_compatibility import Direction, compatibility
from orion_beam.schemas import older
from orion_beam.schemas.avro_format import fingerprint_digits, single_object_header
from orion_beam.schemas.cdr import NormalizedCdr, UnifiedCdr
from orion_beam.schemas.derive import AVRO_DIRECTORY, avro_schema
from orion_beam.schemas.extra_fields import ExtraBlock, ExtraField, ExtraType, extended
from orion_beam.schemas.older import readable_schemas
from orion_beam.schemas.write import OLDER, WRITTEN_MODELS, listed_fingerprints, older_path, write_schemas

HOW = "`make schemas` keeps the former schema and lists both"
VERSIONS = [(name, digits) for name, digits in listed_fingerprints() if older_path(name, digits).exists()]
MODELS = {model.__name__: model for model in WRITTEN_MODELS}


@pytest.mark.parametrize("model", WRITTEN_MODELS, ids=lambda model: model.__name__)
def test_a_schema_whose_fingerprint_changes_leaves_its_former_one_behind(model: type[BaseModel]) -> None:
    listed = [digits for name, digits in listed_fingerprints() if name == model.__name__]
    assert listed[-1:] == [fingerprint_digits(avro_schema(model))], f"{model.__name__} has another fingerprint: {HOW}"
    lost = [digits for digits in listed[:-1] if not older_path(model.__name__, digits).is_file()]
    assert lost == [], f"the schemas of older versions of {model.__name__} are gone: take them from git; {HOW}"


def test_every_older_schema_is_listed_and_has_the_fingerprint_of_its_name() -> None:
    kept = {path.name for path in (AVRO_DIRECTORY / OLDER).iterdir()}
    assert kept == {older_path(name, digits).name for name, digits in VERSIONS}
    for name, digits in VERSIONS:
        assert fingerprint_digits(older_path(name, digits).read_text(encoding="utf-8")) == digits


@pytest.mark.parametrize(("name", "digits"), VERSIONS, ids=str)
def test_records_of_an_older_version_can_be_read(name: str, digits: str) -> None:
    found = compatibility(older_path(name, digits).read_text(encoding="utf-8"), avro_schema(MODELS[name]))
    assert [str(each) for each in found if each.direction is Direction.BACKWARD] == []


def test_writing_the_schemas_keeps_the_former_one_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_schemas(tmp_path)
    before = avro_schema(NormalizedCdr)
    added = create_model("NormalizedCdr", __base__=NormalizedCdr, colour=(str | None, Field(default=None)))
    changed = [added if model is NormalizedCdr else model for model in WRITTEN_MODELS]
    monkeypatch.setattr("orion_beam.schemas.write.WRITTEN_MODELS", changed)
    for _ in range(2):
        write_schemas(tmp_path)
        (kept,) = (tmp_path / OLDER).iterdir()
        assert kept.name == f"NormalizedCdr-{fingerprint_digits(before)}.avsc"
        assert kept.read_text(encoding="utf-8") == before
        versions = [digits for name, digits in listed_fingerprints(tmp_path) if name == "NormalizedCdr"]
        assert versions == [fingerprint_digits(before), fingerprint_digits(avro_schema(added))]


def test_a_change_that_is_taken_back_is_no_older_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_schemas(tmp_path)
    added = create_model("NormalizedCdr", __base__=NormalizedCdr, colour=(str | None, Field(default=None)))
    with monkeypatch.context() as patched:
        changed = [added if model is NormalizedCdr else model for model in WRITTEN_MODELS]
        patched.setattr("orion_beam.schemas.write.WRITTEN_MODELS", changed)
        write_schemas(tmp_path)
    write_schemas(tmp_path)
    versions = [digits for name, digits in listed_fingerprints(tmp_path) if name == "NormalizedCdr"]
    assert versions[-1] == fingerprint_digits(avro_schema(NormalizedCdr))
    assert [path.name for path in (tmp_path / OLDER).iterdir()] == [
        f"NormalizedCdr-{fingerprint_digits(avro_schema(added))}.avsc"
    ]


def test_the_schema_in_use_comes_first_and_then_the_newest() -> None:
    headers = list(readable_schemas(UnifiedCdr))
    versions = [digits for name, digits in listed_fingerprints() if name == "UnifiedCdr"]
    assert [header[2:][::-1].hex() for header in headers] == versions[::-1]


def test_a_cdr_with_fields_of_the_user_s_own_was_written_with_each_older_schema_and_the_fields() -> None:
    block = ExtraBlock(stage="flag_far", fields=(ExtraField(name="is_far", type=ExtraType.BOOLEAN),))
    model = extended(UnifiedCdr, (block,))
    known = readable_schemas(model)
    assert len(known) == 2 * len(readable_schemas(UnifiedCdr))
    assert next(iter(known.values())) == avro_schema(model)
    # An older version, as it derived its schema from the older model and the same block.
    oldest = json.loads(older._older_schemas("UnifiedCdr")[-1])
    oldest["fields"].append(json.loads(avro_schema(model))["fields"][-1])
    schema = known[single_object_header(json.dumps(oldest))]
    row = {field["name"]: _value_of(field["type"]) for field in oldest["fields"]} | {"flag_far": {"is_far": True}}
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(oldest), row)
    body.seek(0)
    writer, reader = (fastavro.parse_schema(json.loads(each)) for each in (schema, avro_schema(model)))
    read = fastavro.schemaless_reader(body, writer, reader)
    assert isinstance(read, dict)
    assert (read["flag_far"], read["warnings"], read["node_id"]) == ({"is_far": True}, [], None)


def _value_of(kind: object) -> object:
    """A value of a type in Avro."""
    match kind:
        case ["null", _]:
            return None
        case {"type": "array"}:
            return []
        case {"type": inner}:
            return _value_of(inner)
    return {"string": "x", "bytes": b"x", "boolean": False}.get(str(kind), 1)
