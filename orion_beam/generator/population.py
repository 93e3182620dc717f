"""Subscribers and cells of a country, the same on every machine and for every seed.

They depend only on the country code and a subscriber's number, so that today's CDRs, last year's reference data and
the tests agree on who is who.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from orion_beam.countries import all_profiles
from orion_beam.generator.draws import Bits, Index, below, chance, draw, part, spread
from orion_beam.generator.towns import towns_of
from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.arrow.compiled import Mask
from orion_beam.transforms.rules.plausibility import example_numbers

POPULATION_SIZE = 20_000
"""Home subscribers of a country."""
VISITORS = 2_000
"""Subscribers of other countries who are seen in a country's network."""
CELLS_PER_COUNTRY = 500
ANCHORS = 8
"""Entries per subscriber in the table of cells that see him: home, work and other places."""

HERE = Path(__file__).parent
_MADE_UP_PREFIX = "6"
# Real type allocation codes of phones and modems; the serial numbers after them are made up.
_TACS = (
    "35391110", "35407115", "35896012", "35299809", "35693803", "35925406", "35733009", "35824005",
    "86073804", "86412303", "86836503", "35201910", "35450211", "35803106", "01326300", "35875505",
)  # fmt: skip
_SUBSCRIBER_TYPES = ("prepaid", "postpaid", "corporate")
_SEGMENTS = {
    "prepaid": ("youth", "consumer", "traveller", "consumer"),
    "postpaid": ("consumer", "family", "premium", "consumer"),
    "corporate": ("small_business", "enterprise", "public_sector", "machine"),
}
_PLANS = {
    "prepaid": ("Start", "Start Plus", "Flex 5", "Flex 20"),
    "postpaid": ("Max 20", "Max 100", "Max 200 5G", "Family 300"),
    "corporate": ("Business", "Business Plus", "Fleet", "Connect"),
}
# Coprime to 10: multiples of it modulo 10^d take each number of d digits once, in no visible order.
_STEP = 7_368_787


@dataclass(frozen=True)
class Population:
    """The subscribers of a country's CDRs and the cells that see them.

    Attributes:
        people: One row per subscriber: imsi, msisdn (digits), imei, segment, plan, subscriber_type; the last three are
            null for visitors. Home subscribers come first, most active first.
        home_size: Number of home subscribers in `people`.
        is_suspicious: Mask over `people`: who uses the network as fraudsters do.
        anchors: Positions in `cells`, shape (people, ANCHORS): where each subscriber is seen.
        cells: One row per cell: cell_id, country, plmn, place, lat, lon, lac_tac. The country's own cells come first.
        home_cells: Number of the country's own cells in `cells`.
        peers: E.164 numbers with + that people call: home subscribers first, then those of other countries.
        home_peers: Number of `peers` in the country.
    """

    people: pl.DataFrame
    home_size: int
    is_suspicious: Mask
    anchors: Index
    cells: pl.DataFrame
    home_cells: int
    peers: pl.Series
    home_peers: int


@dataclass(frozen=True)
class _Numbering:
    """How a country numbers its subscribers, with one PLMN for each of its networks."""

    plmns: tuple[str, ...]
    calling_code: str
    national_digits: int
    mobile_prefixes: tuple[str, ...]


@cache
def _numbering_table() -> dict[str, dict[str, str]]:
    frame = pl.read_csv(HERE / "numbering.csv", infer_schema=False)
    return {row["country"]: row for row in frame.iter_rows(named=True)}


def _numbering_of(profile: CountryProfile) -> _Numbering:
    """Return the numbering of a country with a profile."""
    plmns = tuple(operator.plmns[0] for operator in profile.operators) or (f"{profile.mccs[0]}01",)
    prefixes = profile.mobile_prefixes or (_example_prefix(profile),)
    return _Numbering(plmns, profile.calling_code, profile.national_digits, prefixes)


def _example_prefix(profile: CountryProfile) -> str:
    """Return the first two digits of a number that the country's plan assigns, for a profile without any."""
    for number in example_numbers(profile.code):
        national = number.removeprefix(f"+{profile.calling_code}")
        if len(national) == profile.national_digits:
            return national[:2]
    return _MADE_UP_PREFIX


def _numbering_abroad(country: str) -> _Numbering | None:
    """Return the numbering of any country, from its profile or from the table; None when neither has it."""
    if (profile := all_profiles().get(country)) is not None:
        return _numbering_of(profile)
    if (row := _numbering_table().get(country)) is None:
        return None
    return _Numbering(
        (row["plmn"],), row["calling_code"], int(row["national_digits"]), tuple(row["mobile_prefixes"].split())
    )


def luhn_digits(numbers: Index) -> Index:
    """Return the Luhn check digit of each 14-digit number (3GPP TS 23.003 annex B)."""
    total = np.zeros_like(numbers)
    rest = numbers.copy()
    for place in range(14):
        digit = rest % 10
        rest //= 10
        if place % 2 == 0:
            digit = digit * 2
            digit -= 9 * (digit > 9)
        total += digit
    return (-total) % 10


def _padded(numbers: Index, digits: Index | int) -> pl.Series:
    widths = pl.Series(np.broadcast_to(np.asarray(digits, dtype=np.int64), numbers.shape).copy())
    texts = pl.Series(numbers).cast(pl.String)
    return pl.select(texts.str.zfill(widths)).to_series()


def _gathered(texts: Sequence[str], index: Index) -> pl.Series:
    return pl.Series(texts, dtype=pl.String).gather(pl.Series(index))


def _imsis(plmns: Sequence[str], network: Index, numbers: Index) -> pl.Series:
    digits = np.array([15 - len(plmn) for plmn in plmns])[network]
    return _gathered(plmns, network) + _padded((numbers * _STEP + 1_234_567) % 10**digits, digits)


def _msisdns(numbering: _Numbering, bits: Bits, numbers: Index) -> pl.Series:
    prefixes = numbering.mobile_prefixes
    chosen = below(bits, len(prefixes))
    digits = np.array([numbering.national_digits - len(prefix) for prefix in prefixes])[chosen]
    prefix = _gathered([numbering.calling_code + prefix for prefix in prefixes], chosen)
    return prefix + _padded((numbers * _STEP + 271_828) % 10**digits, digits)


def _imeis(bits: Bits, numbers: Index) -> pl.Series:
    tac = np.array([int(tac) for tac in _TACS])[part(bits, 1).astype(np.int64) % len(_TACS)]
    body = tac * 10**6 + (numbers * _STEP + 314_159) % 10**6
    return _padded(body * 10 + luhn_digits(body), 15)


def _by_type(values: Mapping[str, Sequence[str]], kinds: Index, choice: Index) -> pl.Series:
    flat = [value for kind in _SUBSCRIBER_TYPES for value in values[kind]]
    return _gathered(flat, kinds * 4 + choice)


def _people(country: str, numbering: _Numbering, size: int) -> tuple[pl.DataFrame, Index]:
    """Return the first `size` subscribers of a country and the network (position in plmns) of each."""
    counters = np.arange(size, dtype=np.uint64)
    numbers = counters.astype(np.int64)
    bits = draw(counters, "person", country)
    # The first network is the incumbent's and the largest.
    sizes = [1 / (1 + 0.4 * rank) for rank in range(len(numbering.plmns))]
    network = spread(sizes, 1024)[(part(bits, 0) & np.uint64(1023)).astype(np.int64)]
    kinds = spread([60, 30, 10], 256)[(part(bits, 2) & np.uint64(255)).astype(np.int64)]
    choice = (part(bits, 3) & np.uint64(3)).astype(np.int64)
    frame = pl.DataFrame(
        {
            "imsi": _imsis(numbering.plmns, network, numbers),
            "msisdn": _msisdns(numbering, draw(counters, "number", country), numbers),
            "imei": _imeis(bits, numbers),
            "segment": _by_type(_SEGMENTS, kinds, choice),
            "plan": _by_type(_PLANS, kinds, (choice + part(bits, 1).astype(np.int64)) % 4),
            "subscriber_type": _gathered(_SUBSCRIBER_TYPES, kinds),
        }
    )
    return frame, network


def subscribers_of(profile: CountryProfile, size: int = POPULATION_SIZE) -> pl.DataFrame:
    """Return the home subscribers of a country: imsi, msisdn (digits), imei, segment, plan, subscriber_type.

    A larger population starts with the same subscribers.
    """
    return _people(profile.code, _numbering_of(profile), size)[0]


def cells_of(profile: CountryProfile) -> pl.DataFrame:
    """Return the cells of a country: cell_id (10 characters), country, plmn, place, lat, lon, lac_tac.

    They lie around the country's towns; larger towns have more cells. Made-up towns have no coordinates, nor have their
    cells.

    Raises:
        UserError: As `towns_of`.
    """
    coordinates = {"lat": pl.Float64, "lon": pl.Float64}
    towns = pl.DataFrame([town.model_dump() for town in towns_of(profile)], schema_overrides=coordinates)
    counters = np.arange(CELLS_PER_COUNTRY, dtype=np.uint64)
    bits = draw(counters, "cell", profile.code)
    # The square root of the size, so that a small town has some cells, too.
    town = pl.Series(spread(towns["weight"].sqrt().to_list(), CELLS_PER_COUNTRY))
    plmns = _numbering_of(profile).plmns
    frame = towns.select("code", "place", "lat", "lon")[town].with_columns(
        pl.Series("plmn", _gathered(plmns, counters.astype(np.int64) % len(plmns))),
        # Within about 5 km of the town's centre.
        pl.Series("north", (part(bits, 0).astype(np.float64) - 32_768) / 65_536 * 0.09),
        pl.Series("east", (part(bits, 1).astype(np.float64) - 32_768) / 65_536 * 0.11),
        pl.Series("lac_tac", (part(bits, 2) % np.uint64(60_000) + np.uint64(1_000)).astype(np.int64)).cast(pl.String),
    )
    number = pl.int_range(1, pl.len() + 1).over("code").cast(pl.String).str.zfill(3)
    return frame.select(
        cell_id=pl.concat_str(pl.lit(f"{profile.code}-"), "code", pl.lit("-"), number),
        country=pl.lit(profile.code),
        plmn="plmn",
        place="place",
        lat=(pl.col("lat").cast(pl.Float64) + pl.col("north")).round(5),
        lon=(pl.col("lon").cast(pl.Float64) + pl.col("east")).round(5),
        lac_tac="lac_tac",
    )


def _visitors(profile: CountryProfile) -> pl.DataFrame:
    """Return visiting subscribers: nearly all from usual roaming partners, about one in fifty from elsewhere."""
    abroad = {code: _numbering_abroad(code) for code in (*profile.usual_roaming_countries, "US", "CN")}
    known = [(code, numbering) for code, numbering in abroad.items() if numbering is not None]
    usual = sum(code in profile.usual_roaming_countries for code, _ in known)
    shares = [1.0 if index < usual else usual / 100 for index in range(len(known))]
    counts = np.bincount(spread(shares, VISITORS), minlength=len(known))
    parts = [
        _people(code, numbering, int(count))[0] for (code, numbering), count in zip(known, counts, strict=True) if count
    ]
    # The network they visit does not know their contract.
    unknown = [pl.lit(None, pl.String).alias(name) for name in ("segment", "plan", "subscriber_type")]
    return pl.concat(parts).with_columns(unknown)


def _anchors(profile: CountryProfile, cells: pl.DataFrame, network: Index, visitors: int) -> Index:
    """Return the cells that see each subscriber: half home, a quarter work, two others, all of his own network."""
    plmns = _numbering_of(profile).plmns
    # A visitor uses one of the country's networks, drawn at random.
    met = below(draw(np.arange(visitors, dtype=np.uint64), "met", profile.code), len(plmns))
    serving = np.concatenate([network, met])
    own = {index: np.flatnonzero((cells["plmn"] == plmn).to_numpy()) for index, plmn in enumerate(plmns)}
    anchors = np.empty((len(serving), ANCHORS), dtype=np.int64)
    for index, candidates in own.items():
        rows = np.flatnonzero(serving == index)
        places = [below(draw(rows.astype(np.uint64), place, profile.code), len(candidates)) for place in "hwxy"]
        home, work, third, fourth = (candidates[place] for place in places)
        anchors[rows] = np.stack([home, home, home, home, work, work, third, fourth], axis=1)
    return anchors


@cache
def population_of(profile: CountryProfile, size: int = POPULATION_SIZE) -> Population:
    """Return the people and cells of a country's CDRs, with `size` home subscribers."""
    home, network = _people(profile.code, _numbering_of(profile), size)
    visitors = _visitors(profile)
    people = pl.concat([home, visitors])
    cells = cells_of(profile)
    abroad = [cells_of(other) for code, other in all_profiles().items() if code in profile.usual_roaming_countries]
    numbers = np.arange(people.height, dtype=np.uint64)
    return Population(
        people=people,
        home_size=size,
        is_suspicious=chance(draw(numbers, "suspicious", profile.code), 0.003),
        anchors=_anchors(profile, cells, network, visitors.height),
        cells=pl.concat([cells, *abroad]),
        home_cells=cells.height,
        peers="+" + people["msisdn"],
        home_peers=size,
    )
