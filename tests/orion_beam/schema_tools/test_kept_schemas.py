"""Schemas that a workspace keeps: written by a command, read by whatever reads records, and refused when unreadable."""

from pathlib import Path

import pytest

from orion_beam.errors import UserError
from orion_beam.schema_tools.kept_schemas import keep_schema, kept_schemas
from orion_beam.schemas.cdr import EnrichedCdr, UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    (tmp_path / "orion.yaml").write_text("version: 1\n")
    monkeypatch.setenv("ORION_WORKSPACE", str(tmp_path))
    return Workspace(tmp_path)


def test_there_are_none_without_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert kept_schemas() == ()


def test_what_is_kept_is_read(workspace: Workspace) -> None:
    assert kept_schemas() == ()
    for model in (UnifiedCdr, EnrichedCdr):
        keep_schema(workspace, model)
        keep_schema(workspace, model)
    assert kept_schemas() == (avro_schema(EnrichedCdr), avro_schema(UnifiedCdr))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "expected the Avro schema of a record"),
        ('"string"', "expected the Avro schema of a record"),
        ('{"type": "record", "name": "Cdr", "fields": []}', "Cdr is no record of ORION Beam: expected UnifiedCdr,"),
        ('{"type": "record", "name": "UnifiedCdr", "fields": 3}', "the old schema is no Avro schema"),
        (
            '{"type": "record", "name": "UnifiedCdr", "fields": [{"name": "imsi", "type": "int"}]}',
            "this version cannot read its records: UnifiedCdr.imsi: int of the old schema",
        ),
    ],
    ids=["no JSON", "no record", "of something else", "no schema", "not readable"],
)
def test_a_file_that_is_no_readable_schema_is_named(workspace: Workspace, content: str, says: str) -> None:
    workspace.schemas.mkdir()
    path = workspace.schemas / "Some-0123.avsc"
    path.write_text(content)
    with pytest.raises(UserError, match=says) as refused:
        kept_schemas()
    assert str(refused.value).startswith(f"{path}: ")
