"""The country profiles: those shipped, and what is said of a broken one."""

import shutil

import pytest

from orion_beam.config import FileSink, FileSource, JobConfig
from orion_beam.countries import all_profiles, default_profiles, load_profile, profiles_of
from orion_beam.defaults import PROFILES_DIRECTORY
from orion_beam.errors import UserError

FRANCE = (PROFILES_DIRECTORY / "FR.toml").read_text(encoding="utf-8")


def test_four_countries_are_meant_where_none_are_named():
    assert set(default_profiles()) == {"FR", "TN", "MA", "SN"}


@pytest.mark.parametrize("code", all_profiles())
def test_a_profile_agrees_with_itself(code):
    profile = all_profiles()[code]
    assert profile.code == code
    assert profile.topic == f"cdr.raw.{code}"
    assert profile.zone.key == profile.time_zone
    plmns = [plmn for operator in profile.operators for plmn in operator.plmns]
    assert len(plmns) == len(set(plmns)), "two operators share a PLMN"
    assert {plmn[:3] for plmn in plmns} <= set(profile.mccs)
    assert code not in profile.usual_roaming_countries


def test_no_two_countries_share_an_mcc_or_a_topic():
    profiles = all_profiles().values()
    mccs = [mcc for profile in profiles for mcc in profile.mccs]
    assert len(mccs) == len(set(mccs))
    assert len({profile.topic for profile in profiles}) == len(profiles)


def test_profiles_come_in_the_order_asked_for():
    assert list(profiles_of(["SN", "FR"])) == ["SN", "FR"]


def test_an_unknown_country_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"^unknown country 'XX': known are .*FR, MA, SN, TN$"):
        profiles_of(["FR", "XX"])


@pytest.mark.parametrize(
    ("line", "broken", "message"),
    [
        ('code = "FR"', 'code = "fr"', r"code: String should match"),
        ('time_zone = "Europe/Paris"', 'time_zone = "Europe/Pari"', r"time_zone: .*no IANA time zone"),
        ('mccs = ["208"]', "mccs = []", r"mccs: Tuple should have at least 1 item"),
        ('mccs = ["208"]', 'mccs = ["20"]', r"mccs\.0: String should match"),
        ('plmns = ["20801", "20802"]', 'plmns = ["2080"]', r"operators\.0\.plmns\.0: String should match"),
        ('formats = ["fr_semicolon"]', 'formats = ["csv"]', r"formats: there is no raw format 'csv', only "),
        ('name = "France"', 'nom = "France"', r"nom: there is no such key; known are code, name, "),
        (
            'name = "France"',
            'name = "France"\ncolour = "blue"',
            r"colour: there is no such key; known are code, ",
        ),
        ("national_digits = 9", "national_digits = 99", r"national_digits: .*less than or equal to 12"),
        ('name = "France"', "name = France", r"Invalid value"),
    ],
)
def test_a_broken_profile_is_one_error_that_names_file_field_and_rule(tmp_path, line, broken, message):
    path = tmp_path / "FR.toml"
    assert line in FRANCE
    path.write_text(FRANCE.replace(line, broken, 1), encoding="utf-8")
    with pytest.raises(UserError, match=rf"FR\.toml(:\d+)?: {message}"):
        load_profile(path)


@pytest.fixture
def broken_tunisia(tmp_path):
    shutil.copytree(PROFILES_DIRECTORY, tmp_path / "profiles")
    path = tmp_path / "profiles" / "TN.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("Africa/Tunis", "Africa/Tunes"), encoding="utf-8")
    return path.parent


def test_a_broken_profile_stops_nothing_of_another_country_and_is_said(broken_tunisia, capsys):
    assert profiles_of(["FR"], broken_tunisia) == profiles_of(["FR"])
    assert "TN" not in all_profiles(broken_tunisia)
    (line,) = capsys.readouterr().err.splitlines()
    assert "TN.toml:10: time_zone: " in line
    assert "its operators are not known to others" in line
    with pytest.raises(UserError, match=r"TN\.toml:10: time_zone: "):
        profiles_of(["FR", "TN"], broken_tunisia)


def test_where_no_country_is_named_a_broken_profile_is_refused_since_it_may_be_meant(broken_tunisia):
    with pytest.raises(UserError, match=r"TN\.toml:10: time_zone: .*countries without it: --countries CI,FR,MA,SN$"):
        default_profiles(broken_tunisia)


def test_a_file_is_a_directory_of_one_profile():
    path = PROFILES_DIRECTORY / "FR.toml"
    assert all_profiles(path) == profiles_of(["FR"])
    with pytest.raises(UserError, match=r"unknown country 'TN': known are FR$"):
        profiles_of(["TN"], path)


def test_a_missing_profile_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml"):
        load_profile(tmp_path / "none.toml")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    (tmp_path / "countries").mkdir()
    (tmp_path / "orion.yaml").write_text("version: 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def own(workspace, code, **changes):
    text = FRANCE
    for before, after in {'code = "FR"': f'code = "{code}"', **changes}.items():
        assert before in text
        text = text.replace(before, after)
    (workspace / "countries" / f"{code}.toml").write_text(text, encoding="utf-8")


def test_a_workspace_replaces_a_country_and_adds_one(workspace):
    own(workspace, "FR", **{'name = "France"': 'name = "Francia"'})
    own(workspace, "XA", **{'mccs = ["208"]': 'mccs = ["299"]'})
    assert all_profiles()["FR"].name == "Francia"
    assert all_profiles()["TN"] == all_profiles(PROFILES_DIRECTORY)["TN"]
    assert list(all_profiles()) == ["CI", "FR", "MA", "SN", "TN", "XA"]
    assert set(default_profiles()) == {"FR", "MA", "SN", "TN", "XA"}
    assert all_profiles(PROFILES_DIRECTORY)["FR"].name == "France"


def test_a_broken_country_of_the_workspace_stops_no_other_and_does_not_bring_back_the_shipped_one(workspace, capsys):
    own(workspace, "FR", **{"Europe/Paris": "Europe/Pari"})
    assert list(profiles_of(["TN"])) == ["TN"]
    assert "FR.toml:13: time_zone: " in capsys.readouterr().err
    with pytest.raises(UserError, match=r"FR\.toml:13: time_zone: "):
        profiles_of(["FR"])


def test_the_job_file_switches_rules_of_a_country(workspace):
    (workspace / "orion.yaml").write_text("version: 1\nrules:\n  TN: {luhn_failed: error, late: off}\n")
    assert dict(profiles_of(["TN"])["TN"].rules) == {"luhn_failed": "error", "late": "off"}
    assert profiles_of(["MA"])["MA"].rules == ()


@pytest.mark.parametrize(
    ("rule", "message"),
    [("luhn", "there is no such rule, see `orion-beam rules`"), ("invalid_imsi", "is always an error")],
)
def test_a_rule_that_cannot_be_switched_is_named_with_its_line(workspace, rule, message):
    (workspace / "orion.yaml").write_text(f"version: 1\nrules:\n  TN:\n    {rule}: off\n")
    with pytest.raises(UserError, match=rf"^orion\.yaml:4: rules\.TN\.{rule}: {message}"):
        all_profiles()


def test_a_stored_job_finds_its_profiles_from_anywhere(workspace, tmp_path_factory, monkeypatch):
    own(workspace, "XA", **{'mccs = ["208"]': 'mccs = ["299"]'})
    (workspace / "orion.yaml").write_text("version: 1\nrules:\n  XA: {luhn_failed: error}\n")
    job = JobConfig(
        countries=("XA",),
        source=FileSource(inputs=(("XA", workspace / "x.csv"),)),
        sink=FileSink(directory=workspace),
        wire_prefix=b"",
    )
    before = job.profiles
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    again = JobConfig.model_validate_json(job.model_dump_json())
    assert again == job
    assert again.profiles == before
    assert dict(again.profiles["XA"].rules) == {"luhn_failed": "error"}


@pytest.mark.parametrize("second", ["fr", "France"])
def test_two_files_of_a_country_are_refused_and_both_are_named(tmp_path, second):
    for name in ("FR", second, "TN"):
        shutil.copy(PROFILES_DIRECTORY / ("TN.toml" if name == "TN" else "FR.toml"), tmp_path / f"{name}.toml")
    both = sorted(str(tmp_path / f"{name}.toml") for name in ("FR", second))
    with pytest.raises(UserError) as refused:
        profiles_of(["FR"], tmp_path)
    assert str(refused.value) == f"{both[1]}: code: FR is also that of {both[0]}; keep one of the two files"
    assert list(profiles_of(["TN"], tmp_path)) == ["TN"]
