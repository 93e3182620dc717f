"""A country of a user's own is generated as the shipped ones are: its towns and numbers are data beside its profile."""

import json
from pathlib import Path

import phonenumbers
import polars as pl
import pytest

from orion_beam.countries import all_profiles
from orion_beam.errors import UserError
from orion_beam.generator import cells_of, subscribers_of
from orion_beam.generator.towns import read_towns, towns_of
from orion_beam.workspace import JOB_FILE
from tests.command import Command, orion_beam

__all__ = ["orion_beam"]

NORWAY = """\
code = "NO"
name = "Norway"
topic = "cdr.raw.NO"
mccs = ["242"]
calling_code = "47"
national_digits = 8
time_zone = "Europe/Oslo"
formats = []
usual_roaming_countries = ["SE"]

[[operators]]
name = "Telenor"
plmns = ["24201"]
"""
TOWNS = "code,place,lat,lon,weight\nOSL,Oslo,59.91,10.75,700\nBGO,Bergen,60.39,5.32,290\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / JOB_FILE).write_text("version: 1\n")
    (tmp_path / "countries").mkdir()
    (tmp_path / "countries" / "NO.toml").write_text(NORWAY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("workspace")
def test_a_country_with_a_profile_only_is_generated(orion_beam: Command) -> None:
    arguments = "--count", 2_000, "--seed", 3, "--output", "out", "--json"
    answer = orion_beam("generate", "--countries", "NO", *arguments)
    assert answer.code == 0, answer
    assert json.loads(answer.out)["countries"]["NO"]["records"] == 2_000
    answer = orion_beam("run", "--input", f"NO={next(Path('out').iterdir())}", "--output", "unified", "--json")
    assert answer.code == 0, answer
    assert json.loads(answer.out)["final"] == 2_000


@pytest.mark.usefixtures("workspace")
def test_what_is_not_given_is_made_up() -> None:
    profile = all_profiles()["NO"]
    cells = cells_of(profile)
    assert cells["place"].n_unique() == len(towns_of(profile)) == 8
    assert cells["cell_id"].n_unique() == 500
    assert (cells["cell_id"].str.len_chars() == 10).all()
    assert cells["lat"].null_count() == 500
    numbers = [phonenumbers.parse(f"+{number}") for number in subscribers_of(profile, 200)["msisdn"]]
    assert {phonenumbers.number_type(number) for number in numbers} == {phonenumbers.PhoneNumberType.MOBILE}


def test_towns_and_prefixes_of_the_workspace_are_used(workspace: Path) -> None:
    profile = NORWAY.replace("time_zone", 'mobile_prefixes = ["91", "48"]\ntime_zone')
    (workspace / "countries" / "NO.toml").write_text(profile)
    (workspace / "countries" / "NO.towns.csv").write_text(TOWNS)
    cells = cells_of(all_profiles()["NO"])
    assert cells["cell_id"].str.head(6).unique().sort().to_list() == ["NO-BGO", "NO-OSL"]
    oslo = cells.filter(pl.col("place") == "Oslo")
    assert oslo.height > 250
    assert oslo["lat"].is_between(59.8, 60.0).all()
    assert set(subscribers_of(all_profiles()["NO"], 100)["msisdn"].str.head(4)) == {"4791", "4748"}


def test_a_workspace_s_towns_replace_those_that_are_shipped(workspace: Path) -> None:
    france = all_profiles()["FR"]
    assert "Paris" in {town.place for town in towns_of(france)}
    (workspace / "countries" / "FR.towns.csv").write_text(TOWNS)
    assert [town.place for town in towns_of(france)] == ["Oslo", "Bergen"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("OSL", "Oslo", ":2: code: String should match pattern"),
        ("60.39", "160.39", ":3: lat: Input should be less than or equal to 90"),
        ("5.32", "east", ":3: lon: Input should be a valid number"),
        ("BGO", "OSL", ":3: code: OSL is there twice"),
        ("700", "0", ":2: weight: Input should be greater than 0"),
        (",place", ",name", ":2: place: Field required"),
        ("700", "700,x", ":2: more columns: "),
        (TOWNS, "", " has no town: write the line code,place,lat,lon,weight"),
    ],
)
def test_an_error_has_its_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "NO.towns.csv"
    path.write_text(TOWNS.replace(old, new, 1))
    with pytest.raises(UserError) as refused:
        read_towns(path)
    assert str(refused.value).startswith(f"{path}{problem}")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "NO.towns.csv"
    path.write_bytes(b"code,place\nOSL,\xff\n")
    with pytest.raises(UserError, match="NO.towns.csv: 'utf-8' codec"):
        read_towns(path)
