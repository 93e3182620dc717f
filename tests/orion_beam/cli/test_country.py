"""`orion-beam country`: a new country begins with two files, and the conformance kit finds what breaks one."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import PROFILES_DIRECTORY, all_profiles, load_profile
from orion_beam.inspect.conformance import MUTATIONS, check_country
from orion_beam.schemas.codes import Stage
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms import decode
from orion_beam.transforms.decoders.registry import all_formats

NEW = [
    "country", "new", "CI", "--name", "Côte d'Ivoire", "--mcc", "612", "--calling-code", "225",
    "--national-digits", "10", "--time-zone", "Africa/Abidjan",
]  # fmt: skip
SENEGAL = Path(__file__).parents[2] / "countries" / "test_sn.py"
ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
GOOD = b"208011234567890;+33612345678;352099001761481;FR-PAR-001;4G;1000;2000;2026-06-01T10:00:00Z"


@pytest.fixture
def new_country(orion_beam, tmp_path):
    (tmp_path / "profiles").mkdir()
    directories = ("--profiles", tmp_path / "profiles", "--cases", tmp_path / "testdata", "--tests", tmp_path / "tests")
    return lambda *more: orion_beam(*NEW, *directories, *more)


def test_a_new_country_is_a_profile_a_test_and_cases_that_pass_the_kit(new_country, tmp_path):
    answer = new_country()
    assert answer.code == 0
    assert "orion-beam country check CI" in answer.out
    profile = load_profile(tmp_path / "profiles" / "CI.toml")
    assert (profile.name, profile.topic, profile.mccs) == ("Côte d'Ivoire", "cdr.raw.CI", ("612",))
    test = (tmp_path / "tests" / "test_ci.py").read_text(encoding="utf-8")
    assert test.replace("Côte d'Ivoire", "Senegal").replace("CI", "SN") == SENEGAL.read_text(encoding="utf-8")
    lines = (tmp_path / "testdata" / "ci" / "input.txt").read_bytes().splitlines()
    assert len(lines) == len((tmp_path / "testdata" / "ci" / "cases.txt").read_text().splitlines())
    findings = list(check_country(profile, lines))
    assert [finding.check for finding in findings] == list(MUTATIONS)
    assert all(finding.records == len(lines) and finding.failures == [] for finding in findings)


def test_the_cases_of_a_new_country_break_no_rule_that_they_do_not_name(new_country, tmp_path):
    assert new_country().code == 0
    profile = load_profile(tmp_path / "profiles" / "CI.toml")
    lines = (tmp_path / "testdata" / "ci" / "input.txt").read_bytes().splitlines()
    outcome = run_chain(chain_of(profile, load_reference()), raw_batch("CI", lines, timestamps=ARRIVED))
    warnings = {warning for row in rows(outcome.accepted) for warning in row["warnings"]}
    assert warnings <= {"peer_short_code"}
    assert (outcome.accepted.num_rows, outcome.rejected.num_rows) == (4, 4)


def test_an_mcc_that_another_profile_holds_is_refused_and_leaves_nothing(new_country, orion_beam, tmp_path):
    assert new_country().code == 0
    before = sorted(tmp_path.rglob("*"))
    directories = ("--profiles", tmp_path / "profiles", "--cases", tmp_path / "testdata", "--tests", tmp_path / "tests")
    code, _, err = orion_beam(*NEW[:2], "GH", *NEW[3:], *directories)
    assert (code, err.count("\n")) == (2, 1)
    assert "--mcc 612 is Côte d'Ivoire's" in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("code", all_profiles())
def test_the_countries_that_are_shipped_have_more_than_forty_cases(code):
    cases = (SENEGAL.parents[1] / "testdata" / code.lower() / "cases.txt").read_text(encoding="utf-8").splitlines()
    assert len(cases) > 40


def test_what_is_there_already_is_not_touched(new_country, tmp_path):
    assert new_country().code == 0
    before = (tmp_path / "profiles" / "CI.toml").read_bytes()
    code, _, err = new_country()
    assert (code, err.count("\n")) == (2, 1)
    assert "CI.toml is there already" in err
    assert (tmp_path / "profiles" / "CI.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--time-zone", "Africa/Nowhere", "time_zone"),
        ("--mcc", "61", "mccs"),
        ("--calling-code", "+225", "calling_code"),
    ],
)
def test_a_profile_that_is_not_good_is_refused_and_leaves_nothing(new_country, tmp_path, option, value, named):
    code, _, err = new_country(option, value)
    assert (code, err.count("\n")) == (2, 1)
    assert named in err
    assert list(tmp_path.rglob("*.*")) == []


def test_a_code_of_other_letters_is_refused(orion_beam, tmp_path):
    code, _, err = orion_beam(*NEW[:2], "ci", *NEW[3:], "--profiles", tmp_path, "--cases", tmp_path)
    assert code == 2
    assert "'ci' is not two capital letters" in err


def test_the_kit_says_what_it_tried(orion_beam):
    answer = orion_beam("country", "check", "SN", "--json")
    assert answer.code == 0
    findings = json.loads(answer.out)
    assert len(findings) == len(MUTATIONS)
    assert all(finding["records"] > 40 for finding in findings)


def test_the_kit_takes_a_profile_of_ones_own(orion_beam, tmp_path):
    own = tmp_path / "FR.toml"
    own.write_text((PROFILES_DIRECTORY / "FR.toml").read_text().replace('["fr_semicolon"]', '["csv"]'))
    code, _, err = orion_beam("country", "check", "FR", "--profiles", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "FR.toml:14: formats: there is no raw format 'csv'" in err
    own.write_text((PROFILES_DIRECTORY / "FR.toml").read_text().replace('name = "France"', 'name = "Francia"'))
    assert orion_beam("country", "check", "FR", "--profiles", own, "--json").code == 0


def test_a_country_without_cases_is_one_line(orion_beam, tmp_path):
    code, _, err = orion_beam("country", "check", "FR", "--cases", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "--cases names their directory" in err


def test_the_kit_finds_a_bug(monkeypatch):
    def fragile(payloads):
        if b"\xe9" in payloads.data.tobytes() or any(payloads.lengths < 50):
            raise IndexError("too short")
        return all_formats()["fr_semicolon"].decode(payloads)

    broken = replace(all_formats()["fr_semicolon"], decode=fragile)
    monkeypatch.setattr(decode, "formats_of", lambda _: (broken,))
    findings = {finding.check: finding for finding in check_country(all_profiles()["FR"], [GOOD])}
    assert findings["unchanged"].failures == []
    assert findings["cut in half"].failures == [f"line 1: internal_error in stage {Stage.DECODE}"]


def test_the_kit_finds_a_lost_row(monkeypatch):
    from orion_beam import chain

    real = chain.decode_batch
    monkeypatch.setattr(chain, "decode_batch", lambda batch, profile: real(batch.slice(0, 1), profile))
    monkeypatch.setattr(chain, "split_isolating", lambda split, batch, _: split(batch))
    (finding, *_) = check_country(all_profiles()["FR"], [GOOD])
    assert finding.failures == ["line 1: came out 0 times, and 0 as a dead letter"]


def test_in_a_workspace_the_files_are_its_own_and_are_checked_there(orion_beam, tmp_path, monkeypatch):
    (tmp_path / "orion.yaml").write_text("version: 1\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    answer = orion_beam("country", "new", "XA", *NEW[3:5], "--mcc", "299", *NEW[7:])
    assert answer.code == 0, answer.err
    made = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert made == ["cases/xa/cases.txt", "cases/xa/input.txt", "countries/XA.toml", "orion.yaml"]
    code, out, _ = orion_beam("country", "check", "xa", "--json")
    assert code == 0
    assert all(finding["records"] and not finding["failures"] for finding in json.loads(out))


def test_a_shipped_country_may_be_replaced_and_another_ones_mcc_may_not_be_taken(orion_beam, tmp_path, monkeypatch):
    (tmp_path / "orion.yaml").write_text("version: 1\n")
    monkeypatch.chdir(tmp_path)
    assert orion_beam(*NEW).code == 0
    code, _, err = orion_beam(*NEW[:2], "GH", *NEW[3:])
    assert code == 2
    assert "--mcc 612 is Côte d'Ivoire's (CI)" in err


def test_elsewhere_a_new_country_needs_a_workspace(orion_beam, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = orion_beam(*NEW)
    assert (code, err.count("\n")) == (2, 1)
    assert "`orion-beam init DIR` makes one" in err
    assert list(tmp_path.iterdir()) == []
