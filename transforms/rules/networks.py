"""The home network of an IMSI: its country, MCC, MNC and operator, by the plans of all countries (ITU-T E.212).

`data/mcc.csv` lists the mobile country codes and the lengths of their MNCs, `data/plmn.csv` the networks.
`data/README.md` names the sources of both. Some plans have MNCs of both lengths (India's 405, Trinidad's 374). There a
known network gives the length of its MNC, a longer one before a shorter; all other MNCs have the plan's usual length.
"""

import csv
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import types

from orion_beam.transforms.arrow.compiled import (
    INT64,
    TEXTS,
    Bytes,
    Mask,
    Texts,
    column_of,
    compiled,
    copy_bytes,
    is_valid,
    texts_of,
)
from orion_beam.transforms.arrow.texts import ZERO, are_digits

_DATA = Path(__file__).parent / "data"
_MCC_DIGITS, _PREFIX_DIGITS = 3, 6
"""Digits of an IMSI that identify its network: three of the MCC, and two or three of the MNC."""


class Network(NamedTuple):
    """A public land mobile network.

    Attributes:
        mcc: Mobile country code, three digits.
        mnc: Mobile network code, two or three digits.
        country: ISO 3166-1 alpha-2 code; empty for an international network.
        operator: Brand, or name of the company.
    """

    mcc: str
    mnc: str
    country: str
    operator: str


@cache
def known_plmns() -> tuple[Network, ...]:
    """Return the networks of all countries and the international networks."""
    return tuple(Network(**row) for row in _rows("plmn.csv"))


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (_DATA / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


class _Plans(NamedTuple):
    """Tables of the plans.

    Attributes:
        mnc_digits: Length of the MNC, by the first six digits of an IMSI as a number.
        country: Index into `countries` by the same number; -1 if unknown.
        countries: Countries, ISO 3166-1 alpha-2.
        is_assigned: Whether an MCC is assigned. The last entry, also index -1, is for texts without an MCC.
    """

    mnc_digits: npt.NDArray[np.int8]
    country: npt.NDArray[np.int16]
    countries: pa.StringArray
    is_assigned: Mask


@cache
def _plans() -> _Plans:
    mccs = list(_rows("mcc.csv"))
    countries = sorted(({row["country"] for row in mccs} | {plmn.country for plmn in known_plmns()}) - {""})
    digits, country = np.full(10**_PREFIX_DIGITS, 2, np.int8), np.full(10**_PREFIX_DIGITS, -1, np.int16)
    for row in mccs:
        prefixes = _prefixes(row["mcc"])
        digits[prefixes] = int(row["mnc_digits"])
        if row["country"]:
            country[prefixes] = countries.index(row["country"])
    for plmn in sorted(known_plmns(), key=lambda plmn: len(plmn.mnc)):
        prefixes = _prefixes(plmn.mcc + plmn.mnc)
        digits[prefixes] = len(plmn.mnc)
        if plmn.country:
            country[prefixes] = countries.index(plmn.country)
    is_assigned = np.zeros(1001, np.bool_)
    is_assigned[[int(row["mcc"]) for row in mccs] + [int(plmn.mcc) for plmn in known_plmns()]] = True
    return _Plans(digits, country, pa.array(countries), is_assigned)


def _prefixes(start: str) -> slice:
    """Return the range of six-digit numbers that begin with some digits."""
    step = 10 ** (_PREFIX_DIGITS - len(start))
    return slice(int(start) * step, (int(start) + 1) * step)


class HomeNetwork(NamedTuple):
    """The network that issued an IMSI: mobile country code and mobile network code."""

    mcc: pa.StringArray
    mnc: pa.StringArray


def home_networks(imsis: pa.StringArray) -> HomeNetwork:
    """Return the MCC and MNC of valid IMSIs (3GPP TS 23.003 clause 2.2). The plan gives the length of the MNC."""
    mcc_offsets, mccs, mnc_offsets, mncs = _home_networks(texts_of(imsis), _plans().mnc_digits)
    return HomeNetwork(column_of(mcc_offsets, mccs), column_of(mnc_offsets, mncs))


def countries() -> pa.StringArray:
    """Return all countries with networks (ISO 3166-1 alpha-2)."""
    return _plans().countries


def home_countries(prefixes: npt.NDArray[np.int32]) -> npt.NDArray[np.int16]:
    """Return the index into `countries` of each IMSI's country; -1 if unknown.

    Args:
        prefixes: Result of `prefixes_of`.
    """
    return _plans().country[prefixes]


def prefixes_of(imsis: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return the first six digits of valid IMSIs as a number."""
    return _numbers_at_start(texts_of(imsis), _PREFIX_DIGITS)


def mobile_country_codes(imsis: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return the MCC of each IMSI as a number (ITU-T E.212); -1 if it is null or does not begin with three digits."""
    return _numbers_at_start(texts_of(imsis), _MCC_DIGITS)


def are_assigned(mccs: npt.NDArray[np.int32]) -> Mask:
    """Return which MCCs belong to a country or an international network (ITU-T E.212), or to a known network."""
    return _plans().is_assigned[mccs]


@compiled(TEXTS, INT64)
def _numbers_at_start(texts: Texts, digits: int) -> npt.NDArray[np.int32]:
    """Return the first `digits` digits of each text as a number; -1 if it is null or does not begin with as many."""
    numbers = np.full(len(texts.offsets) - 1, -1, np.int32)
    for row in range(len(numbers)):
        start = texts.offsets[row]
        end = start + digits
        if is_valid(texts, row) and end <= texts.offsets[row + 1] and are_digits(texts.data, start, end):
            number = 0
            for place in range(start, end):
                number = number * 10 + texts.data[place] - ZERO
            numbers[row] = number
    return numbers


@compiled(TEXTS, types.Array(types.int8, 1, "C", readonly=True))
def _home_networks(
    imsis: Texts, mnc_digits: npt.NDArray[np.int8]
) -> tuple[npt.NDArray[np.int32], Bytes, npt.NDArray[np.int32], Bytes]:
    """Return the offsets and bytes of the MCC column, then those of the MNC column.

    An MCC has 3 bytes. The length of an MNC depends on the first six digits, see `mnc_digits`:

        imsi   208011234567890
        MCC    208
        MNC       01
    """
    rows = len(imsis.offsets) - 1
    mcc_offsets, mccs = np.zeros(rows + 1, np.int32), np.empty(3 * rows, np.uint8)
    mnc_offsets, mncs = np.zeros(rows + 1, np.int32), np.empty(3 * rows, np.uint8)
    prefixes = _numbers_at_start(imsis, _PREFIX_DIGITS)
    for row in range(rows):
        start, mnc_at = imsis.offsets[row], mnc_offsets[row]
        copy_bytes(mccs, _MCC_DIGITS * row, imsis.data, start, _MCC_DIGITS)
        mcc_offsets[row + 1] = _MCC_DIGITS * (row + 1)
        length = mnc_digits[prefixes[row]]
        copy_bytes(mncs, mnc_at, imsis.data, start + _MCC_DIGITS, length)
        mnc_offsets[row + 1] = mnc_at + length
    return mcc_offsets, mccs, mnc_offsets, mncs


@cache
def are_among(networks: tuple[str, ...]) -> Mask:
    """Return whether an IMSI's network is one of some: a mask by the first six digits of an IMSI as a number.

    Args:
        networks: PLMNs (MCC and MNC), or an MCC for all of its networks.
    """
    mask = np.zeros(10**_PREFIX_DIGITS, np.bool_)
    for network in networks:
        mask[_of_network(network)] = True
    return mask


def _of_network(network: str) -> npt.NDArray[np.int64]:
    """Return the first six digits, as numbers, of the IMSIs of a PLMN or an MCC."""
    first, end = _prefixes(network).start, _prefixes(network).stop
    prefixes = np.arange(first, end)
    mnc_digits = len(network) - _MCC_DIGITS
    return prefixes[_plans().mnc_digits[prefixes] == mnc_digits] if mnc_digits else prefixes


class Operators:
    """The operators of the world by PLMN. A job's own name for a PLMN overrides the world's.

    Attributes:
        names: Distinct names of all operators.
    """

    def __init__(self, own: Mapping[str, str]) -> None:
        """Build the tables. `own` holds the job's own names by PLMN (MCC and MNC)."""
        operators = {plmn.mcc + plmn.mnc: plmn.operator for plmn in known_plmns()} | dict(own)
        self.names = pa.array(sorted(set(operators.values())))
        places = {name: place for place, name in enumerate(self.names.to_pylist())}
        self._place_of = {plmn: places[name] for plmn, name in operators.items()}
        self._by_prefix = np.full(10**_PREFIX_DIGITS, -1, np.int16)
        for plmn, place in self._place_of.items():
            self._by_prefix[_of_network(plmn)] = place

    def of_imsis(self, prefixes: npt.NDArray[np.int32]) -> npt.NDArray[np.int16]:
        """Return the index into `names` of each IMSI's operator; -1 if unknown.

        Args:
            prefixes: Result of `prefixes_of`.
        """
        return self._by_prefix[prefixes]

    def of(self, plmns: pa.StringArray) -> npt.NDArray[np.int32]:
        """Return the index into `names` of each PLMN's operator; -1 if unknown."""
        return np.array([self._place_of.get(plmn, -1) for plmn in plmns.to_pylist()], np.int32)
