"""Stages of one's own as commands show them: their codes, their schema, and a fault in one of them."""

import json

import fastavro
import pytest

from orion_beam.schema_tools.kept_schemas import kept_schemas
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.older import readable_schemas

STAGE = """
from orion_beam.custom_stages import Reject, custom_stage, split
import pyarrow.compute as pc

@custom_stage(codes={"no_cell": "the cell is not known"}, fields={"vip": bool})
def tag(batch):
    vip = pc.starts_with(batch.column("imsi"), "20801")
    return split(batch.append_column("vip", vip), Reject("no_cell", "cell_id", pc.is_null(batch.column("cell_id"))))
"""

FR = b"208011234567890;33612345678;;FR-1;;1;2;1780308000\n208021234567890;33612345678;;;;1;2;1780308000\n"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "tag.py").write_text(STAGE)
    (tmp_path / "orion.yaml").write_text("version: 1\nstages:\n  - {name: tag, after: enrich}\n")
    (tmp_path / "fr.csv").write_bytes(FR)
    monkeypatch.setenv("ORION_WORKSPACE", str(tmp_path))
    return tmp_path


def test_rules_lists_their_codes(orion_beam, workspace):  # noqa: ARG001
    listed = {rule["id"]: rule for rule in json.loads(orion_beam("rules", "--json").out)}
    assert listed["tag.no_cell"]["meaning"] == "the cell is not known"
    assert listed["tag.no_cell"]["source"] == "the stage tag, after enrich"
    assert "tag.internal_error" in listed


def test_the_schema_of_cdrs_has_their_fields(orion_beam, workspace):
    shown = orion_beam("schema", "show", "cdr").out
    assert json.loads(shown)["fields"][-1]["name"] == "tag"
    (workspace / "shown.avsc").write_text(shown)
    assert orion_beam("schema", "check", workspace / "shown.avsc").code == 0


def test_keep_writes_it_so_that_versions_to_come_read_its_records(orion_beam, workspace):
    kept = orion_beam("schema", "keep")
    assert kept.out == f"{next((workspace / 'schemas').iterdir())}\n"
    assert kept_schemas() == (orion_beam("schema", "show", "cdr").out,)
    # The job's next version has another field, and no record of this one is lost for it.
    (workspace / "orion.yaml").write_text("version: 1\n")
    assert any('"vip"' in schema for schema in readable_schemas(UnifiedCdr, kept_schemas()).values())


def test_a_run_has_them_and_so_have_trace_and_retest(orion_beam, workspace):
    out = workspace / "out"
    summary = json.loads(orion_beam("run", "--input", f"FR={workspace}/fr.csv", "--output", out, "--json").out)
    assert summary["countries"]["FR"]["codes"] == {"tag.no_cell": 1}
    with (out / "cdr.final.avro").open("rb") as file:
        assert [record["tag"] for record in fastavro.reader(file)] == [{"vip": True}]
    where = ("trace", "--input", out, "--topic", workspace / "fr.csv")
    kept = json.loads(orion_beam(*where, "--offset", 0, "--json").out)
    assert kept["fields"]["tag"] == {"vip": True}
    dropped = json.loads(orion_beam(*where, "--offset", 1, "--json").out)
    assert dropped["stages"][-1] == {
        "stage": "tag", "accepted": False, "codes": ["tag.no_cell"],
        "rules": ["cell_id: tag.no_cell: the cell is not known"],
    }  # fmt: skip
    retest = json.loads(orion_beam("dlq", "retest", "--input", out, "--json").out)
    assert (retest["letters"], retest["fails_alike"]) == (1, 1)
    (workspace / "stages" / "tag.py").write_text(STAGE.replace('pc.is_null(batch.column("cell_id"))', "[False]"))
    retest = json.loads(orion_beam("dlq", "retest", "--input", out, "--json").out)
    assert (retest["letters"], retest["passes"]) == (1, 1)


def test_letters_are_found_by_their_codes_and_stages(orion_beam, workspace):
    out = workspace / "out"
    orion_beam("run", "--input", f"FR={workspace}/fr.csv", "--output", out)
    for option, value, letters in [("--code", "tag.no_cell", 1), ("--stage", "tag", 1), ("--code", "tag.other", 0)]:
        stats = json.loads(orion_beam("dlq", "stats", "--input", out, option, value, "--json").out)
        assert stats["letters"] == letters
    refused = orion_beam("dlq", "stats", "--input", out, "--code", "tag.No")
    assert refused.code == 2
    assert "or STAGE.code of a stage of your own" in refused.err
    listed = orion_beam("dlq", "ls", "--input", out, "--json").out
    assert "tag.no_cell" in listed


@pytest.mark.parametrize("command", ["run", "rules"])
def test_a_stage_that_cannot_be_imported_ends_a_command_with_one_line(orion_beam, workspace, command):
    (workspace / "stages" / "tag.py").write_text("import nosuch_package\n")
    arguments = ["--input", f"FR={workspace}/fr.csv", "--output", workspace / "out"] if command == "run" else []
    answer = orion_beam(command, *arguments)
    assert answer.code == 2
    last = answer.err.splitlines()[-1]
    assert "stage tag: " in last
    assert "stages/tag.py:1: ModuleNotFoundError: No module named 'nosuch_package'" in last
    assert not (workspace / "out").exists()
