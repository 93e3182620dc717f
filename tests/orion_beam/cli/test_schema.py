"""`orion-beam schema`, called as a user calls it."""

import json
import subprocess
import sys
from typing import Any

import fastavro
import pytest

from orion_beam.schemas.derive import avro_schema, avsc_path
from orion_beam.schemas.write import WRITTEN_MODELS


@pytest.fixture
def avsc(tmp_path):
    def write(name: str, schema: object):
        path = tmp_path / name
        path.write_text(json.dumps(schema), encoding="utf-8")
        return path

    return write


def unified(**changes: object) -> dict[str, Any]:
    return json.loads(avro_schema(WRITTEN_MODELS[0])) | changes


V1 = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}
V2 = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]}


def test_show_without_a_name_lists_every_record(orion_beam):
    answer = orion_beam("schema", "show")
    assert answer.code == 0
    assert [line.split()[0] for line in answer.out.splitlines()] == [
        "cdr", "validated-cdr", "normalized-cdr", "enriched-cdr", "dead-letter",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["cdr", "UnifiedCdr", "unifiedcdr", "dead-letter", "DeadLetter", "Validated-CDR"])
def test_show_prints_the_checked_in_schema_byte_for_byte(orion_beam, name):
    answer = orion_beam("schema", "show", name)
    assert answer.code == 0
    assert answer.out in {avsc_path(model).read_text(encoding="utf-8") for model in WRITTEN_MODELS}
    fastavro.parse_schema(json.loads(answer.out))


def test_show_arrow_prints_the_schema_of_batches(orion_beam):
    assert "event_time: timestamp[ms, tz=UTC]" in orion_beam("schema", "show", "cdr", "--arrow").out
    assert "imsi: string" in orion_beam("schema", "show", "validated-cdr", "--arrow").out


def test_show_of_an_unknown_record_is_one_line_that_names_the_known_ones(orion_beam):
    code, out, err = orion_beam("schema", "show", "cdrs")
    assert (code, out) == (2, "")
    assert err == (
        "orion-beam: error: unknown record 'cdrs': known are cdr, validated-cdr, normalized-cdr, enriched-cdr,"
        " dead-letter\n"
    )


def test_check_of_a_schema_against_itself_says_compatible(orion_beam, avsc):
    path = avsc("v1.avsc", V1)
    assert orion_beam("schema", "check", path, path) == (0, "compatible: old and new read each other's records\n", "")


def test_check_prints_each_incompatibility_and_exits_1(orion_beam, avsc):
    code, out, err = orion_beam("schema", "check", avsc("v1.avsc", V1), avsc("v2.avsc", V2))
    assert (code, err) == (1, "")
    assert out == (
        "R.b: the new schema needs it or a default, the old schema does not have it (missing_default, backward)\n"
    )


def test_check_json_is_one_object_for_machines(orion_beam, avsc):
    code, out, _ = orion_beam("schema", "check", avsc("v1.avsc", V1), avsc("v2.avsc", V2), "--json")
    answer = json.loads(out)
    assert code == 1
    assert answer["compatible"] is False
    (only,) = answer["incompatibilities"]
    assert (only["direction"], only["rule"], only["path"]) == ("backward", "missing_default", "R.b")


def test_check_json_of_compatible_schemas_is_an_empty_list(orion_beam, avsc):
    path = avsc("v1.avsc", V1)
    code, out, _ = orion_beam("schema", "check", path, path, "--json")
    assert (code, json.loads(out)) == (0, {"compatible": True, "incompatibilities": []})


def test_check_with_one_file_compares_with_the_checked_in_version_of_that_record(orion_beam, avsc):
    assert orion_beam("schema", "check", avsc("same.avsc", unified())).code == 0
    fewer = unified(fields=[each for each in unified()["fields"] if each["name"] != "imsi"])
    code, out, _ = orion_beam("schema", "check", avsc("fewer.avsc", fewer))
    assert code == 1
    assert out.startswith("UnifiedCdr.imsi: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "declares no record"),
        (b"[1]", "declares no record"),
        (b'{"type":"record","name":"Other","fields":[]}', "unknown record 'Other'"),
        (b'{"type":"record","name":"UnifiedCdr","fields":[{"name":"x"}]}', "the new schema is no Avro schema"),
        (b"\xff", "is no UTF-8 text"),
    ],
)
def test_check_of_an_unreadable_schema_is_one_line_and_exit_code_2(orion_beam, tmp_path, content, message):
    path = tmp_path / "new.avsc"
    path.write_bytes(content)
    code, out, err = orion_beam("schema", "check", path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("orion-beam: error: ")
    assert message in err


def test_check_of_a_missing_file_names_it(orion_beam, tmp_path):
    code, _, err = orion_beam("schema", "check", tmp_path / "none.avsc")
    assert code == 2
    assert err == f"orion-beam: error: cannot read {tmp_path / 'none.avsc'}: No such file or directory\n"


@pytest.mark.parametrize("count", [0, 3])
def test_check_takes_one_file_or_two(orion_beam, avsc, count):
    assert orion_beam("schema", "check", *[avsc("v1.avsc", V1)] * count).code == 2


@pytest.mark.parametrize("command", ["show", "check"])
def test_help_has_an_example(orion_beam, command):
    answer = orion_beam("schema", command, "--help")
    assert answer.code == 0
    assert f"Example: orion-beam schema {command}" in answer.out


def test_help_and_schema_do_not_import_beam():
    lines = [
        "import sys, typer.testing, orion_beam.cli.main as cli",
        "run = typer.testing.CliRunner().invoke",
        "assert run(cli.app, ['--help']).exit_code == 0",
        "assert not {'apache_beam', 'pyarrow', 'pydantic'} & set(sys.modules)",
        "assert run(cli.app, ['schema', 'show']).exit_code == 0",
        "assert 'apache_beam' not in sys.modules",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=600)
