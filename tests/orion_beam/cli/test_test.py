"""`orion-beam test`: golden cases, conformance and the tests of stages, in a workspace."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from orion_beam.checks import stage_tests
from orion_beam.defaults import PROFILES_DIRECTORY

RECORDS = """\
208011234567890|+33612345678|voice|60||
208011234567890|+33612345678|data||10|20
208011234567890|+33612345678|nosuch|||
x
"""
CASES = "a call\ndata\nunknown event type\nno known format\n"
STAGE_TEST = """\
def test_good(): assert True

def test_bad():
    number = "+33612345678"
    assert number == "x"
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch) -> Path:
    """Make a workspace with a profile and golden cases without expected outputs."""
    (tmp_path / "orion.yaml").write_text("version: 1\n")
    (tmp_path / "countries").mkdir()
    shutil.copy(PROFILES_DIRECTORY / "FR.toml", tmp_path / "countries")
    folder = tmp_path / "cases" / "fr"
    folder.mkdir(parents=True)
    (folder / "input.txt").write_text(RECORDS)
    (folder / "cases.txt").write_text(CASES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def updated(workspace: Path, orion_beam) -> Path:
    """Make a workspace whose expected outputs are written."""
    answer = orion_beam("test", "--update")
    assert answer.code == 0, answer.out + answer.err
    return workspace


Results = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def results(orion_beam) -> Results:
    """Run the command; return its results of one suite."""

    def run(suite: str, *options: str) -> list[dict[str, Any]]:
        answer = orion_beam("test", "--json", *options)
        found = json.loads(answer.out)
        assert answer.code == (1 if found["failed"] else 0), answer.err
        assert found["passed"] + found["failed"] + found["skipped"] == len(found["results"])
        return [each for each in found["results"] if each["suite"] == suite]

    return run


def test_cases_without_expected_outputs_fail_and_say_what_they_are(workspace, results):
    golden = results("golden")
    assert [(each["name"], each["state"], each["line"]) for each in golden] == [
        ("FR line 1: a call", "failed", 1),
        ("FR line 2: data", "failed", 2),
        ("FR line 3: unknown event type", "failed", 3),
        ("FR line 4: no known format", "failed", 4),
    ]
    assert golden[0]["problems"] == ["expected nothing, and it is a CDR"]
    assert golden[2]["problems"] == ["expected nothing, and it is a dead letter (unknown_event_type)"]
    assert not list((workspace / "cases" / "fr").glob("expected*"))


def test_update_writes_the_form_of_the_golden_tests(updated):
    folder = updated / "cases" / "fr"
    final = [json.loads(line) for line in (folder / "expected_final.jsonl").read_text().splitlines()]
    letters = [json.loads(line) for line in (folder / "expected_dead_letters.jsonl").read_text().splitlines()]
    assert [(each["line"], each["case"], each["event_type"]) for each in final] == [
        (1, "a call", "voice"),
        (2, "data", "data"),
    ]
    assert [(each["line"], each["code"]) for each in letters] == [(3, "unknown_event_type"), (4, "malformed_payload")]
    assert final[0]["event_time"] == "2026-06-01T12:00:00.000Z"


@pytest.mark.usefixtures("updated")
def test_everything_passes_afterwards(results, orion_beam):
    assert {each["state"] for each in results("golden")} == {"passed"}
    conformance = results("conformance")
    assert {each["state"] for each in conformance} == {"passed"}
    assert "FR: cut in half" in {each["name"] for each in conformance}
    answer = orion_beam("test")
    assert answer.code == 0
    assert answer.out.splitlines()[-1].startswith(f"{6 + 4 + len(conformance)} passed, 0 failed, 0 skipped in ")


def test_a_difference_names_case_field_and_values_and_update_shows_it_once(updated, results):
    path = updated / "cases" / "fr" / "expected_final.jsonl"
    good = path.read_text()
    path.write_text(good.replace('"bytes_up": 10', '"bytes_up": 11').replace("+33612345678", "+33612345679", 1))
    first, second, *_ = results("golden")
    assert first["problems"] == [
        'CDR: msisdn: expected "+3361\u2022\u2022\u2022\u2022679", and it is "+3361\u2022\u2022\u2022\u2022678"'
    ]
    assert second["problems"] == ["CDR: bytes_up: expected 11, and it is 10"]
    # The file is replaced, not written over: what is interrupted halfway leaves it whole.
    different = updated / "before.jsonl"
    different.hardlink_to(path)
    assert [each["state"] for each in results("golden", "--update")] == ["passed"] * 4
    assert path.read_text() == good
    assert different.read_text() != good
    assert results("golden", "--update")[1]["problems"] == []


def test_a_record_that_came_out_another_way_is_a_difference(updated, results):
    path = updated / "cases" / "fr" / "input.txt"
    path.write_text(path.read_text().replace("nosuch", "sms"))
    assert results("golden")[2]["problems"] == [
        "expected a dead letter (unknown_event_type), and it is a CDR",
    ]


def test_records_arrive_when_their_folder_says(workspace, results):
    (workspace / "cases" / "fr" / "received_at.txt").write_text("2026-07-01T00:00:00+00:00\n")
    results("golden", "--update")
    assert '"event_time": "2026-07-01T00:00:00.000Z"' in (workspace / "cases/fr/expected_final.jsonl").read_text()
    (workspace / "cases" / "fr" / "received_at.txt").write_text("yesterday\n")
    ((problem,),) = (each["problems"] for each in results("golden"))
    assert "received_at.txt" in problem
    assert "2026-06-01T12:00:00Z" in problem


def test_other_checks_go_on_when_a_profile_is_broken(updated, results):
    shutil.copytree(updated / "cases" / "fr", updated / "cases" / "sn")
    path = updated / "countries" / "FR.toml"
    path.write_text(path.read_text().replace("time_zone", "timezone"))
    assert {each["state"] for each in results("lint")} == {"passed", "failed"}
    golden = {each["name"]: each["problems"] for each in results("golden")}
    assert "FR.toml" in golden.pop("not run")[0]
    assert [name.split(":")[0] for name in golden] == [f"SN line {line}" for line in (1, 2, 3, 4)]
    assert results("conformance") == []


def test_the_tests_of_stages_run_and_numbers_are_masked(updated, results, orion_beam):
    (updated / "stages").mkdir()
    (updated / "stages" / "test_stage.py").write_text(STAGE_TEST)
    good, bad = results("stages")
    assert (good["name"], good["state"]) == ("stages.test_stage::test_good", "passed")
    assert (bad["name"], bad["state"]) == ("stages.test_stage::test_bad", "failed")
    assert "33612345678" not in str(bad)
    assert bad["problems"][0].startswith("AssertionError: assert '+3361")
    assert bad["problems"][-1].startswith("stages/test_stage.py:5: ")
    assert orion_beam("test", "--junit", "report.xml").code == 1
    suites = {suite.get("name"): suite for suite in ElementTree.parse(updated / "report.xml").getroot()}
    assert list(suites) == ["lint", "golden", "conformance", "stages"]
    assert (suites["stages"].get("tests"), suites["stages"].get("failures")) == ("2", "1")
    assert suites["golden"][0].get("file") == "cases/fr/input.txt"


def test_a_test_of_a_stage_that_cannot_be_imported_fails(updated, results):
    (updated / "stages").mkdir()
    (updated / "stages" / "test_stage.py").write_text("import nosuch\n")
    (only,) = results("stages")
    assert only["state"] == "failed"
    assert any("No module named 'nosuch'" in line for line in only["problems"])


STAGE = """\
import pyarrow as pa
import pyarrow.compute as pc
from orion_beam.custom_stages import Reject, custom_stage, split

@custom_stage(codes={"short_call": "a call below a minute"}, fields={"is_long": bool})
def calls(batch):
    seconds = pc.fill_null(batch.column("duration_s"), 3600)
    batch = batch.append_column("is_long", pc.greater(seconds, 600))
    return split(batch, Reject("short_call", "duration_s", pc.less(seconds, 60)))
"""


def test_the_stages_of_the_job_run_in_golden_cases_and_conformance(workspace, results, orion_beam):
    (workspace / "orion.yaml").write_text("version: 1\nstages:\n  - {name: calls, after: enrich}\n")
    (workspace / "stages").mkdir()
    (workspace / "stages" / "calls.py").write_text(STAGE)
    path = workspace / "cases" / "fr" / "input.txt"
    path.write_text(path.read_text().replace("voice|60", "voice|59"))
    problems = [each["problems"] for each in results("golden", "--update")]
    assert problems[0] == ["expected nothing, and it is a dead letter (calls.short_call)"]
    assert '"calls": {"is_long": true}' in (workspace / "cases/fr/expected_final.jsonl").read_text()
    assert {each["state"] for each in results("conformance")} == {"passed"}
    (workspace / "stages" / "calls.py").write_text(STAGE.replace('"duration_s")', '"nosuch")'))
    assert {each["state"] for each in results("golden")} >= {"failed"}
    assert "failed" in {each["state"] for each in results("conformance")}
    assert orion_beam("test").err.count("internal_error in stage calls, KeyError") == 1


def test_the_job_of_golden_cases_has_the_record_checks_of_the_job_file(workspace, results):
    (workspace / "orion.yaml").write_text("version: 1\nrecord_checks:\n  flag_duplicates: true\n")
    path = workspace / "cases" / "fr" / "input.txt"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    (workspace / "cases" / "fr" / "cases.txt").write_text(CASES + "the call again\n")
    results("golden", "--update")
    final = (workspace / "cases/fr/expected_final.jsonl").read_text().splitlines()
    assert [json.loads(line).get("warnings") for line in final][-1] == ["duplicate"]


@pytest.mark.parametrize("file", ["cases.txt", "expected_final.jsonl", "expected_dead_letters.jsonl"])
def test_a_file_of_golden_cases_that_is_no_text_is_one_line(updated, orion_beam, file):
    path = next(updated.glob(f"cases/*/{file}"))
    path.write_bytes(b"\xff")
    answer = orion_beam("test", "--update")
    assert answer.code != 0
    assert f"{path.relative_to(updated)}: is no UTF-8 text" in answer.out + answer.err
    path.unlink()
    path.mkdir()
    answer = orion_beam("test", "--update")
    assert answer.code != 0
    assert f"{path.relative_to(updated)}: Is a directory" in answer.out + answer.err


def test_tests_of_stages_that_end_pytest_have_not_passed(updated, orion_beam):
    (updated / "stages").mkdir()
    (updated / "stages" / "test_vip.py").write_text("def test_bad(): assert False\n")
    (updated / "stages" / "conftest.py").write_text("raise SystemExit(0)\n")
    answer = orion_beam("test")
    assert answer.code == 1
    assert "failed pytest" in answer.out


def test_without_pytest_the_tests_of_stages_are_skipped_and_one_line_says_so(updated, orion_beam, monkeypatch):
    (updated / "stages").mkdir()
    for name in ("test_a.py", "test_b.py"):
        (updated / "stages" / name).write_text(STAGE_TEST)
    monkeypatch.setattr(stage_tests, "find_spec", lambda _: None)
    answer = orion_beam("test")
    assert answer.code == 0
    assert answer.out.count("pip install 'orion-beam[test]'") == 1
    assert "2 skipped" in answer.out.splitlines()[-1]


def test_without_a_workspace_there_is_nothing_to_test(tmp_path, monkeypatch, orion_beam):
    monkeypatch.chdir(tmp_path)
    answer = orion_beam("test")
    assert answer.code == 2
    assert "there is no workspace" in answer.err
