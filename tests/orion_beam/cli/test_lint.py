"""`orion-beam lint`: each kind of mistake, with its place and fix, and the reports for CI."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orion_beam.checks.lint_finding import LintRule, toml_lines
from orion_beam.defaults import PROFILES_DIRECTORY, SHIPPED_CATALOGUE

MALI = """\
code = "ML"
name = "Mali"
topic = "cdr.raw.ML"
mccs = ["610"]
calling_code = "223"
national_digits = 8
time_zone = "Africa/Bamako"
formats = []
usual_roaming_countries = ["SN"]

[[operators]]
name = "Malitel"
plmns = ["61001"]

[[operators]]
name = "Orange Mali"
plmns = ["61002"]
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch) -> Path:
    """Make a workspace without findings."""
    (tmp_path / "orion.yaml").write_text("version: 1\n")
    (tmp_path / "countries").mkdir()
    (tmp_path / "countries" / "ML.toml").write_text(MALI)
    shutil.copy(SHIPPED_CATALOGUE, tmp_path / "topics.yaml")
    folder = tmp_path / "cases" / "ml"
    folder.mkdir(parents=True)
    (folder / "input.txt").write_text("610010123456789|22370123456|sms|||\nx\n")
    (folder / "cases.txt").write_text("pipe text\nno known format\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lint(orion_beam) -> Callable[[], list[tuple[str, int, str, str]]]:
    def run() -> list[tuple[str, int, str, str]]:
        answer = orion_beam("lint", "--json")
        findings = json.loads(answer.out)
        assert answer.code == (1 if findings else 0), answer.err
        assert all(finding["fix"] for finding in findings)
        return [(Path(each["file"]).name, each["line"], each["rule"], each["message"]) for each in findings]

    return run


@pytest.mark.usefixtures("workspace")
def test_a_good_workspace_has_no_findings(orion_beam):
    answer = orion_beam("lint")
    assert (answer.code, answer.out) == (0, "5 files, 0 findings\n")


def test_without_a_workspace_there_is_nothing_to_check(tmp_path, monkeypatch, orion_beam):
    monkeypatch.chdir(tmp_path)
    answer = orion_beam("lint")
    assert answer.code == 2
    assert "there is no workspace" in answer.err
    assert "orion-beam init DIR" in answer.err


PROFILE_MISTAKES = {
    "text for a number": ("national_digits = 8", 'national_digits = "x"', 6, "country-file", "national_digits: "),
    "misspelt field": ("time_zone", "timezone", 7, "country-file", "timezone: there is no such field"),
    "no zone": ("Africa/Bamako", "Mali", 7, "country-file", "is no IANA time zone"),
    "not TOML": ('name = "Mali"', "name = Mali", 2, "country-file", "Invalid value"),
    "too many levels": ('name = "Mali"', f"name = {'[' * 5000}", 1, "country-file", "too many levels"),
    "nested": ('plmns = ["61002"]', 'plmns = ["6100"]', 17, "country-file", "operators.1.plmns.0: "),
    "unknown format": ("formats = []", 'formats = ["nosuch"]', 8, "country-file", "nosuch"),
    "unknown rule": ("[[operators]]", '[rules]\nnosuch = "off"\n[[operators]]', 12, "country-file", "rules.nosuch"),
    "file of another code": ('code = "ML"', 'code = "NE"', 1, "country-file-name", "code: is NE"),
    "calling code": ('"223"', '"227"', 5, "numbering-plan", "calling_code: 227 is not"),
    "number length": ("digits = 8", "digits = 9", 6, "numbering-plan", "example numbers of ML have 8"),
    "MCC of France": ('"610"]', '"610", "208"]', 4, "mcc-twice", "mccs: 208 is France's as well"),
    "topic of France": ("cdr.raw.ML", "cdr.raw.FR", 3, "topic-twice", "topic: cdr.raw.FR is France's"),
    "topic of a stage": ("cdr.raw.ML", "cdr.enriched", 3, "topic-twice", "topic: cdr.enriched has another use"),
    "PLMN of another country": ("61002", "60801", 17, "plmn", "60801 begins with none of the country's MCCs"),
    "PLMN twice": ("61002", "61001", 13, "plmn", "61001 is there 2 times"),
}


@pytest.mark.parametrize("mistake", PROFILE_MISTAKES)
def test_a_mistake_in_a_profile_has_its_line_and_rule(workspace, lint, mistake):
    good, bad, line, rule, message = PROFILE_MISTAKES[mistake]
    (workspace / "countries" / "ML.toml").write_text(MALI.replace(good, bad, 1))
    found = lint()
    assert ("ML.toml", line, rule) in [each[:3] for each in found]
    assert message in " ".join(each[3] for each in found)


def test_all_mistakes_are_found_at_once(workspace, lint):
    text = MALI.replace("time_zone", "timezone").replace("national_digits = 8", "national_digits = 99")
    (workspace / "countries" / "ML.toml").write_text(text)
    (workspace / "countries" / "NE.toml").write_text("code = ")
    assert [each[:2] for each in lint()] == [
        ("ML.toml", 1),
        ("ML.toml", 6),
        ("ML.toml", 7),
        ("NE.toml", 1),
    ]


def test_a_mistake_in_a_file_of_towns_has_its_line(workspace, lint):
    (workspace / "countries" / "ML.towns.csv").write_text("code,place,lat\nBKO,Bamako,12.6\nSIK,Sikasso,112\n")
    (workspace / "countries" / "NE.towns.csv").write_text("code,place\nNIM,Niamey\n")
    assert lint() == [
        ("ML.towns.csv", 3, "towns-file", "lat: Input should be less than or equal to 90"),
        ("NE.towns.csv", 1, "towns-file", "there is no country NE"),
    ]


def test_an_mcc_of_two_profiles_of_the_workspace_is_found(workspace, lint):
    niger = MALI.replace("ML", "NE").replace("Mali", "Niger", 1).replace("223", "227")
    (workspace / "countries" / "NE.toml").write_text(niger)
    (workspace / "cases" / "ne").mkdir()
    for name in ("input.txt", "cases.txt"):
        shutil.copy(workspace / "cases" / "ml" / name, workspace / "cases" / "ne" / name)
    assert [each[2:] for each in lint()] == [("mcc-twice", "mccs: 610 is Mali's as well (ML.toml)")]


def test_a_byte_order_mark_is_no_mistake(workspace, lint):
    (workspace / "countries" / "ML.toml").write_text(f"\ufeff{MALI}", encoding="utf-8")
    assert lint() == []


def test_a_profile_may_replace_a_shipped_one(workspace, lint):
    shutil.copy(PROFILES_DIRECTORY / "FR.toml", workspace / "countries")
    assert [each[2:] for each in lint()] == [("country-without-cases", "FR has no golden cases")]


def test_a_topic_that_the_catalogue_has_twice_is_found(workspace, lint):
    (workspace / "topics.yaml").write_text("topics:\n  enriched: {name: cdr.validated}\n")
    ((file, _, rule, message),) = lint()
    assert (file, rule) == ("topics.yaml", "topics-file")
    assert message == "topic cdr.validated is there twice"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("topics:\n  final:\n    partitions: 0\n", 3, "topics.final.partitions: "),
        ("topics:\n  final:\n    nosuch: 0\n", 3, "topics.final.nosuch: "),
        ("topics:\n  final: [\n", 3, ""),
    ],
)
def test_a_mistake_in_the_topics_has_its_line(workspace, lint, text, line, message):
    (workspace / "topics.yaml").write_text(text)
    ((*where, said),) = lint()
    assert where == ["topics.yaml", line, "topics-file"]
    assert said.startswith(message)


def test_a_raw_topic_that_topics_yaml_gives_another_use_is_found(workspace, lint):
    (workspace / "topics.yaml").write_text("topics:\n  final: {name: cdr.raw.ML}\n")
    assert lint() == [("ML.toml", 3, "topic-twice", "topic: cdr.raw.ML has another use in the topic catalogue")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("version: 1\nbrokres: [a:1]\n", 2, "brokres: there is no such key; did you mean brokers?"),
        ("version: 1\nflink:\n  parallelism: 0\n", 3, "flink.parallelism: "),
        ("version: 1\n- x\n", 2, ""),
        ("version: 1\ncountries:\n  - ML\n  - XX\n", 4, "countries: there is no country XX"),
        ("version: 1\nrules:\n  XX: {luhn_failed: error}\n", 3, "rules: there is no country XX"),
        ("version: 1\nrules:\n  ML:\n    nosuch: error\n", 4, "rules.ML.nosuch"),
        ("version: 1\nflink:\n  options:\n    nosuch_option: 1\n", 2, "nosuch_option"),
    ],
)
def test_a_mistake_in_the_job_file_has_its_line(workspace, lint, text, line, message):
    (workspace / "orion.yaml").write_text(text)
    ((*where, said),) = lint()
    assert where == ["orion.yaml", line, "job-file"]
    assert message in said


def test_reference_data_that_cannot_be_loaded_is_found(workspace, lint):
    (workspace / "reference").mkdir()
    (workspace / "reference" / "cells.csv").write_text("nosuch\n1\n")
    (workspace / "orion.yaml").write_text("version: 1\nreference:\n  cells: reference/cells.csv\n")
    ((*where, said),) = lint()
    assert where == ["orion.yaml", 3, "reference-data"]
    assert said.startswith("reference.cells: ")


HIDDEN = "\u2022"
FORMAT = """\
kind = "separated"
separator = "|"
columns = ["imsi", "msisdn", "event_type", "duration_s", "bytes_up", "bytes_down"]
"""


@pytest.fixture
def format_file(workspace) -> Path:
    """Declare a format and let Mali send it. It has the columns of pipe text."""
    (workspace / "countries" / "ML.toml").write_text(MALI.replace("formats = []", 'formats = ["ml_pipe"]'))
    (workspace / "formats").mkdir()
    path = workspace / "formats" / "ml_pipe.toml"
    path.write_text(FORMAT.replace('"|"', '","'))
    return path


@pytest.mark.parametrize(
    ("good", "bad", "line", "message"),
    [
        ("separated", "nosuch", 1, "kind: is one of"),
        ('"imsi"', "imsi", 3, "Invalid value"),
        ('"|"', '"||"', 2, "separator: "),
        ('"duration_s"', '"imsi"', 3, "imsi"),
    ],
)
def test_a_mistake_in_a_format_has_its_line(format_file, lint, good, bad, line, message):
    format_file.write_text(FORMAT.replace(good, bad))
    ((*where, said),) = lint()
    assert where == ["ml_pipe.toml", line, "format-file"]
    assert message in said


def test_a_format_that_no_country_sends_is_found(format_file, lint):
    assert lint() == []
    format_file.rename(format_file.with_stem("other"))
    assert {each[:3] for each in lint()} == {("other.toml", 1, "format-unused"), ("ML.toml", 8, "country-file")}


def test_the_fix_of_a_misspelt_format_is_its_name(format_file, orion_beam):
    format_file.rename(format_file.with_stem("ml_pipes"))
    answer = orion_beam("lint")
    assert "ML.toml:8: country-file: formats: there is no raw format 'ml_pipe'" in answer.out
    assert "fix: write ml_pipes" in answer.out


def test_two_formats_that_read_the_same_record_are_found_with_the_record(format_file, lint):
    format_file.write_text(FORMAT)
    assert lint() == [
        (
            "ml_pipe.toml",
            1,
            "formats-overlap",
            "ml_pipe and pipe_text both read a record of ML, and ml_pipe gets it:"
            f" 6100{HIDDEN * 8}789|2237{HIDDEN * 4}456|sms||| (cases/ml/input.txt:1)",
        )
    ]


def test_two_formats_that_claim_the_same_record_are_found_without_a_case_of_it(format_file, lint):
    """Both have the separator of the other, so the second one's records never reach it."""
    mali = format_file.parents[1] / "countries" / "ML.toml"
    mali.write_text(mali.read_text().replace('["ml_pipe"]', '["ml_short", "ml_pipe"]'))
    short = 'kind = "separated"\nseparator = ","\ncolumns = ["imsi", "msisdn", "event_time"]\n'
    (format_file.parent / "ml_short.toml").write_text(short)
    ((file, _, rule, message),) = lint()
    assert (file, rule) == ("ml_short.toml", "formats-overlap")
    assert message.startswith("ml_short and ml_pipe both claim a record of ML, and ml_short gets it: ")
    assert message.endswith(" (a generated record)")
    (format_file.parent / "ml_short.toml").write_text(short + "[recognised_by]\nseparators = 2\n")
    assert lint() == []


STAGES = "version: 1\nstages:\n  - {name: vip, after: enrich}\n"
GOOD_STAGE = "from orion_beam.custom_stages import split\n\n\ndef vip(batch):\n    return split(batch)\n"


@pytest.mark.parametrize(
    ("code", "place", "message"),
    [
        (None, ("orion.yaml", 3, "stage"), "there is no "),
        ("import nosuch\n", ("vip.py", 1, "stage"), "ModuleNotFoundError: No module named 'nosuch'"),
        ("x = 1\ndef vip(:\n", ("vip.py", 2, "stage"), "SyntaxError"),
        ("def other(batch): ...\n", ("orion.yaml", 3, "stage"), "has no vip"),
    ],
)
def test_a_stage_that_cannot_run_is_found(workspace, lint, code, place, message):
    (workspace / "orion.yaml").write_text(STAGES)
    (workspace / "stages").mkdir()
    if code is not None:
        (workspace / "stages" / "vip.py").write_text(code)
    ((*where, said),) = lint()
    assert tuple(where) == place
    assert message in said


def test_two_stages_of_one_name_are_found(workspace, lint):
    (workspace / "orion.yaml").write_text(STAGES + "  - {name: vip, after: validate}\n")
    (workspace / "stages").mkdir()
    (workspace / "stages" / "vip.py").write_text(GOOD_STAGE)
    assert lint() == [("orion.yaml", 4, "stage", "two stages are named vip; line 3 has the other")]


def test_a_stage_that_no_job_runs_is_found_and_its_tests_are_not(workspace, lint):
    (workspace / "stages").mkdir()
    for name in ("vip.py", "test_vip.py", "conftest.py"):
        (workspace / "stages" / name).write_text(GOOD_STAGE)
    assert lint() == [("vip.py", 1, "stage-unused", "no stage of orion.yaml runs it")]
    (workspace / "orion.yaml").write_text(STAGES)
    assert lint() == []


CASE_MISTAKES = {
    "cases.txt too short": ("cases.txt", "pipe text\n", ("cases.txt", 2, "has 1 lines, and input.txt has 2")),
    "cases.txt too long": ("cases.txt", "a\nb\nc\n", ("cases.txt", 3, "has 3 lines, and input.txt has 2")),
    "same description": ("cases.txt", "a\na\n", ("cases.txt", 2, "line 1 has the same description")),
    "no input": ("input.txt", None, ("input.txt", 1, "No such file or directory")),
}


@pytest.mark.parametrize("mistake", CASE_MISTAKES)
def test_a_mistake_in_golden_cases_is_found(workspace, lint, mistake):
    name, text, (file, line, message) = CASE_MISTAKES[mistake]
    path = workspace / "cases" / "ml" / name
    path.unlink() if text is None else path.write_text(text)
    assert lint() == [(file, line, "cases", message)]


def test_cases_of_no_country_are_found(workspace, lint):
    (workspace / "cases" / "ml").rename(workspace / "cases" / "mali")
    assert {each[2:] for each in lint()} == {
        ("cases", "there is no country MALI"),
        ("country-without-cases", "ML has no golden cases"),
    }


def test_people_see_file_line_rule_and_fix(workspace, orion_beam):
    (workspace / "countries" / "ML.toml").write_text(MALI.replace("time_zone", "timezone"))
    answer = orion_beam("lint")
    assert answer.code == 1
    assert answer.out.splitlines() == [
        "countries/ML.toml:1: country-file: time_zone: is required",
        "    fix: add time_zone",
        "countries/ML.toml:7: country-file: timezone: there is no such field",
        "    fix: write time_zone",
        "5 files, 2 findings",
    ]


def test_a_junit_report_has_a_case_for_each_file_and_finding(workspace, orion_beam):
    (workspace / "countries" / "ML.toml").write_text(MALI.replace("time_zone", "timezone"))
    assert orion_beam("lint", "--junit", "lint.xml").code == 1
    (suite,) = ElementTree.parse(workspace / "lint.xml").getroot()
    assert suite.attrib == {"name": "lint", "tests": "6", "failures": "2", "errors": "0", "skipped": "0"}
    failed = {case.get("name"): case for case in suite if len(case)}
    assert sorted(failed) == ["countries/ML.toml:1 country-file", "countries/ML.toml:7 country-file"]
    case = failed["countries/ML.toml:7 country-file"]
    assert (case.get("file"), case.get("line")) == ("countries/ML.toml", "7")
    assert case[0].get("message") == "timezone: there is no such field; write time_zone"


@pytest.mark.usefixtures("workspace")
def test_a_report_that_cannot_be_written_is_a_mistake_of_the_user(orion_beam):
    answer = orion_beam("lint", "--junit", "nosuch/lint.xml")
    assert answer.code == 2
    assert "--junit" in answer.err


def test_lines_of_toml_are_those_of_tables_and_keys():
    text = 'a = 1\n[b."c.d"]\n"e" = 2\n[[f]]\ng = 3\n[[f]]\ng = 4\n'
    assert toml_lines(text)["a",] == 1
    assert toml_lines(text)["f", 1, "g"] == 7
    assert [toml_lines(text)["f", place] for place in (0, 1)] == [4, 6]


def test_the_guide_lists_every_rule_with_its_meaning():
    text = (Path(__file__).parents[3] / "docs" / "guides" / "test-a-workspace.md").read_text(encoding="utf-8")
    table = text.partition("| rule |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in table]
    assert rows == [[f"`{rule}`", rule.meaning] for rule in LintRule]
