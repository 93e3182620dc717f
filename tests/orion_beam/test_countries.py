"""The country profiles: those shipped, and what is said of a broken one."""

import shutil

import pytest

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
        ('name = "France"', 'nom = "France"', r"name: Field required"),
        ('name = "France"', 'name = "France"\ncolour = "blue"', r"colour: Extra inputs are not permitted"),
        ("national_digits = 9", "national_digits = 99", r"national_digits: .*less than or equal to 12"),
        ('name = "France"', "name = France", r"Invalid value"),
    ],
)
def test_a_broken_profile_is_one_error_that_names_file_field_and_rule(tmp_path, line, broken, message):
    path = tmp_path / "FR.toml"
    assert line in FRANCE
    path.write_text(FRANCE.replace(line, broken, 1), encoding="utf-8")
    with pytest.raises(UserError, match=rf"FR\.toml: {message}"):
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
    assert "TN.toml: time_zone: " in line
    assert "its operators are not known to others" in line
    with pytest.raises(UserError, match=r"TN\.toml: time_zone: "):
        profiles_of(["FR", "TN"], broken_tunisia)


def test_where_no_country_is_named_a_broken_profile_is_refused_since_it_may_be_meant(broken_tunisia):
    with pytest.raises(UserError, match=r"TN\.toml: time_zone: .*the countries without it: --countries CI,FR,MA,SN$"):
        default_profiles(broken_tunisia)


def test_a_file_is_a_directory_of_one_profile():
    path = PROFILES_DIRECTORY / "FR.toml"
    assert all_profiles(path) == profiles_of(["FR"])
    with pytest.raises(UserError, match=r"unknown country 'TN': known are FR$"):
        profiles_of(["TN"], path)


def test_a_missing_profile_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml"):
        load_profile(tmp_path / "none.toml")
