"""Whose an IMSI is: country, length of the MNC, operator, by the plans of all countries (ITU-T E.212).

`data/mcc.csv` lists the mobile country codes and how long their MNCs are, `data/plmn.csv` the networks that operate;
where both come from stands in `data/README.md`. Where a plan has MNCs of both lengths (India's 405, Trinidad's 374),
the networks that are known decide, a longer one before a shorter; what is left has the length that is usual there.
"""

import csv
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.texts import ZERO, Mask, buffer_of, bytes_of, chosen, cut, index_in, offsets_of

_DATA = Path(__file__).parent / "data"
_PREFIX_DIGITS = 6
"""So many digits of an IMSI say all: three of MCC, and two or three of MNC."""


class Plmn(NamedTuple):
    """A public land mobile network.

    Attributes:
        mcc: three digits.
        mnc: two digits or three.
        country: ISO 3166-1 alpha-2; empty for an international network.
        operator: brand, or name of the company.
    """

    mcc: str
    mnc: str
    country: str
    operator: str


@cache
def known_plmns() -> tuple[Plmn, ...]:
    """Return the networks that operate, of all countries."""
    return tuple(Plmn(**row) for row in _rows("plmn.csv"))


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (_DATA / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


class _Plans(NamedTuple):
    """By the number that the first six digits of an IMSI are: the length of the MNC, and the index of the country.

    The index of a country that is not known is -1.
    """

    mnc_digits: npt.NDArray[np.int8]
    country: npt.NDArray[np.int16]
    countries: pa.StringArray
    assigned_mccs: pa.BinaryArray


@cache
def _plans() -> _Plans:
    mccs = list(_rows("mcc.csv"))
    countries = sorted({row["country"] for row in mccs} | {plmn.country for plmn in known_plmns()} - {""})
    digits, country = np.full(10**_PREFIX_DIGITS, 2, np.int8), np.full(10**_PREFIX_DIGITS, -1, np.int16)
    for row in mccs:
        prefixes = _prefixes(row["mcc"])
        digits[prefixes], country[prefixes] = int(row["mnc_digits"]), countries.index(row["country"])
    for plmn in sorted(known_plmns(), key=lambda plmn: len(plmn.mnc)):
        prefixes = _prefixes(plmn.mcc + plmn.mnc)
        digits[prefixes] = len(plmn.mnc)
        if plmn.country:
            country[prefixes] = countries.index(plmn.country)
    return _Plans(digits, country, pa.array(countries), pa.array([row["mcc"].encode() for row in mccs]))


def _prefixes(start: str) -> slice:
    """Return the numbers of six digits that begin with some digits."""
    step = 10 ** (_PREFIX_DIGITS - len(start))
    return slice(int(start) * step, (int(start) + 1) * step)


class HomeNetwork(NamedTuple):
    """The network that issued an IMSI: mobile country code and mobile network code."""

    mcc: pa.StringArray
    mnc: pa.StringArray


def home_networks(imsis: pa.StringArray) -> HomeNetwork:
    """Split valid IMSIs (3GPP TS 23.003 clause 2.2): three digits of MCC, two or three of MNC by the MCC's plan."""
    starts = offsets_of(imsis)[:-1].astype(np.int64)
    behind = starts + 3
    mnc_ends = behind + _plans().mnc_digits[_prefixes_of(imsis)]
    return HomeNetwork(cut(buffer_of(imsis), starts, behind), cut(buffer_of(imsis), behind, mnc_ends))


def home_countries(imsis: pa.StringArray) -> pa.StringArray:
    """Return the country (ISO 3166-1 alpha-2) of valid IMSIs, null where none is known."""
    plans = _plans()
    return chosen(plans.countries, plans.country[_prefixes_of(imsis)])


def _prefixes_of(imsis: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return the first six digits of valid IMSIs as a number."""
    starts, data = offsets_of(imsis)[:-1], bytes_of(imsis)
    number = np.zeros(len(imsis), np.int32)
    for place in range(_PREFIX_DIGITS):
        number *= 10
        number += data[starts + place] - np.uint8(ZERO)
    return number


def has_known_mcc(imsis: pa.StringArray) -> Mask:
    """Say which IMSIs begin with a country's MCC (ITU-T E.212); what is no IMSI may say either."""
    # Bytes: of a text that is no IMSI the first three may end within a character.
    return index_in(pc.binary_slice(imsis.cast(pa.binary()), 0, 3), _plans().assigned_mccs) >= 0


class Operators:
    """The operators of the world by PLMN; where a job knows a PLMN by another name, by that one."""

    def __init__(self, own: Mapping[str, str]) -> None:
        """Take the job's own names by PLMN, MCC and MNC."""
        names = {plmn.mcc + plmn.mnc: plmn.operator for plmn in known_plmns()} | dict(own)
        self._plmns, self._names = pa.array(names, pa.string()), pa.array(names.values(), pa.string())

    def of(self, plmns: pa.StringArray) -> pa.StringArray:
        """Return the operator of each PLMN, null where none is known."""
        return chosen(self._names, index_in(plmns, self._plmns))
