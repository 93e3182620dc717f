"""`orion-beam format`: what it shows of a file, and what it drafts."""

import gzip
import json
import tomllib

import pytest

FR = b"208011234567890;+33612345678;352099001761481;FR-PAR-001;4G;10;20;2026-06-01T10:00:00Z\n"


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "sample.gz"
    path.write_bytes(gzip.compress(FR * 5))
    return path


def test_the_first_records_are_shown_under_each_format_that_reads_them(sample, orion_beam):
    out = orion_beam("format", "try", sample, "--rows", "1", "--json").out
    (found,) = json.loads(out)
    assert (found["format"], found["read"], found["lines"]) == ("fr_semicolon", 5, 5)
    assert found["rows"][0]["cell_id"] == "FR-PAR-001"
    assert "208011234567890" not in out
    assert "fr_semicolon reads 5 of 5 lines" in orion_beam("format", "try", sample).out


@pytest.mark.parametrize("options", [(), ("--json",), ("--draft",)])
def test_a_file_that_is_not_utf_8_is_said_to_be_none_as_run_says_it(tmp_path, orion_beam, options):
    file = tmp_path / "sample.txt"
    file.write_bytes(FR.decode().encode("utf-16"))
    answer = orion_beam("format", "try", file, *options)
    assert answer.code == 0
    assert f"{file}: its text is UTF-16, not UTF-8: give run --input --encoding utf-16" in answer.err
    assert "UTF-16" not in answer.out
    file.write_bytes(FR)
    assert orion_beam("format", "try", file, *options).err == ""


def test_a_draft_is_a_declaration(sample, orion_beam):
    answer = orion_beam("format", "try", sample, "--draft")
    assert answer.code == 0
    assert tomllib.loads(answer.out)["kind"] == "separated"
    assert "208011234567890" not in answer.out


def test_a_format_of_the_workspace_is_tried_too(tmp_path, orion_beam, monkeypatch):
    (tmp_path / "orion.yaml").write_text("version: 1\n")
    (tmp_path / "formats").mkdir()
    path = tmp_path / "formats" / "own.toml"
    path.write_text('kind = "separated"\nseparator = "~"\ncolumns = ["msisdn", "imsi"]\n')
    file = tmp_path / "sample.txt"
    file.write_text("+33612345678~208011234567890\n")
    monkeypatch.chdir(tmp_path)
    assert "own reads 1 of 1 lines" in orion_beam("format", "try", file).out
    path.write_text('kind = "separated"\n')
    answer = orion_beam("format", "try", file)
    assert answer.code == 2
    assert "formats/own.toml: separator: Field required" in answer.err


@pytest.mark.parametrize(
    ("content", "code", "said"), [("what?\n", 1, "no known format reads"), ("", 2, "holds no line")]
)
def test_a_file_that_nothing_reads_is_said(tmp_path, orion_beam, content, code, said):
    file = tmp_path / "sample.txt"
    file.write_text(content)
    answer = orion_beam("format", "try", file)
    assert answer.code == code
    assert said in answer.out + answer.err
    assert orion_beam("format", "try", tmp_path / "none.txt").code == 2
