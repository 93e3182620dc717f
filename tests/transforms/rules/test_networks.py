"""Whose an IMSI is: by the tables, whatever the length of the MNC."""

import csv
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from orion_beam.countries import all_profiles
from orion_beam.transforms.arrow.texts import take_texts
from orion_beam.transforms.rules import networks as plmns
from orion_beam.transforms.rules.networks import (
    Operators,
    countries,
    home_countries,
    home_networks,
    known_plmns,
    prefixes_of,
)

DATA = Path(plmns.__file__).parent / "data"


def rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((DATA / name).read_text(encoding="utf-8").splitlines()))


MCCS = {row["mcc"]: row for row in rows("mcc.csv")}
PLMNS = {row["mcc"] + row["mnc"]: row for row in rows("plmn.csv")}


def by_row(imsi: str) -> tuple[str, str, str | None]:
    """Look an IMSI up the slow and obvious way."""
    of_mcc = MCCS.get(imsi[:3], {"country": None, "mnc_digits": "2"})
    known = PLMNS.get(imsi[:6]) or PLMNS.get(imsi[:5])
    if known:
        return imsi[:3], known["mnc"], known["country"] or of_mcc["country"] or None
    return imsi[:3], imsi[3 : 3 + int(of_mcc["mnc_digits"])], of_mcc["country"] or None


def countries_of(imsis: pa.StringArray) -> list[str | None]:
    return take_texts(countries(), home_countries(prefixes_of(imsis))).to_pylist()


def test_known_networks_and_all_between_them_are_split_as_the_tables_say():
    prefixes = [
        f"{mcc}{rest:03d}" for mcc in {*MCCS, *(plmn[:3] for plmn in PLMNS), "000"} for rest in range(0, 1000, 9)
    ]
    prefixes += [f"{plmn}{digit}"[:6] for plmn in PLMNS for digit in (0, 9)]
    imsis = pa.array([prefix + "123456789" for prefix in prefixes])
    networks = home_networks(imsis)
    found = zip(networks.mcc.to_pylist(), networks.mnc.to_pylist(), countries_of(imsis), strict=True)
    assert list(found) == [by_row(prefix) for prefix in prefixes]


@pytest.mark.parametrize(
    ("imsi", "mnc", "country"),
    [
        ("208011234567890", "01", "FR"),
        ("208500123456789", "500", "FR"),  # one of the three-digit networks of a two-digit plan
        ("310260123456789", "260", "US"),
        ("405031234567890", "03", "IN"),  # two digits and three in one plan
        ("405840123456789", "840", "IN"),
        ("901031234567890", "03", None),  # no country's
        ("901991234567890", "99", None),
        ("742041234567890", "04", "GF"),
        ("431021234567890", "02", "AE"),
    ],
)
def test_the_mnc_is_as_long_as_the_network_s(imsi, mnc, country):
    imsis = pa.array([imsi])
    assert (home_networks(imsis).mnc.to_pylist(), countries_of(imsis)) == ([mnc], [country])


def test_operators_are_known_worldwide_and_ours_by_their_own_names():
    operators = Operators({"20815": "Free Mobile"})
    names = ["Free Mobile", "T-Mobile", "Orange", None, None]
    plmns = pa.array(["20815", "310260", "61002", "99999", None])
    assert take_texts(operators.names, operators.of(plmns)).to_pylist() == names
    imsis = pa.array([(plmn or "000").ljust(6, "0") + "123456789" for plmn in plmns.to_pylist()])
    assert take_texts(operators.names, operators.of_imsis(prefixes_of(imsis))).to_pylist() == names


def test_the_table_is_sound():
    assert len(PLMNS) == len(rows("plmn.csv")) > 2000
    assert all(len(plmn.mcc) == 3 and len(plmn.mnc) in (2, 3) and plmn.operator for plmn in known_plmns())
    assert all(len(plmn.country) in (0, 2) for plmn in known_plmns())


def test_every_code_and_network_of_the_itu_s_lists_is_in_the_tables():
    # The annexes of ITU Operational Bulletins 1117 (MCC) and 1280 (MNC), one MCC a line.
    lines = (Path(__file__).parents[2] / "testdata" / "itu_networks.txt").read_text(encoding="utf-8").splitlines()
    listed = {mcc: mncs for mcc, *mncs in map(str.split, lines)}
    assert len(listed) == 239
    assert set(listed) <= set(MCCS)
    missing = {mcc + mnc for mcc, mncs in listed.items() for mnc in mncs} - set(PLMNS)
    india, bermuda = {f"4050{rest}" for rest in range(30, 48)} | {"40584", "40585", "40586"}, {"350000", "350007"}
    assert missing == india | bermuda
    for plmn in missing:
        assert any(each.startswith(plmn) or plmn.startswith(each) for each in PLMNS), f"{plmn} is missing for no reason"


def test_our_profiles_operators_are_in_the_table():
    of_profiles = {plmn for profile in all_profiles().values() for each in profile.operators for plmn in each.plmns}
    assert of_profiles <= set(PLMNS)
    assert Counter(plmn[:3] for plmn in of_profiles).keys() == {"208", "604", "605", "608", "612"}
