"""The rule-based fraud score, model `rules-1`: five conditions with weights, summed and capped at 1.

The conditions that a row meets form a number of five bits. It is the index into tables of 32 scores and reasons.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import EVENT_TYPES
from orion_beam.transforms.arrow.texts import Mask, index_among, is_in, is_null, starts_with
from orion_beam.transforms.stage.join_countries import Countries

MODEL_VERSION = "rules-1"

LONG_CALL_S = 2 * 3600
HEAVY_USAGE_BYTES = 10 * 10**9

WEIGHTS = {
    "voice_over_2h": 0.3,
    "over_10_gb": 0.4,
    "unusual_roaming_country": 0.4,
    "unknown_roaming_partner": 0.2,
    "international_voice_or_sms": 0.2,
}
"""Weight of each reason."""


def conditions(columns: Mapping[str, pa.Array], is_roaming: Mask, countries: Countries) -> npt.NDArray[np.uint8]:
    """Return for each row a number whose bit `i` is set if the row meets condition `i` of WEIGHTS.

    It reads event_type, duration_s, bytes_up, bytes_down, peer_msisdn, roaming_country and roaming_partner.
    """
    usage = sum(_or_zero(columns[name]).astype(np.float64) for name in ("bytes_up", "bytes_down"))
    peer, country = columns["peer_msisdn"], columns["roaming_country"]
    event_type = index_among(columns["event_type"], EVENT_TYPES)
    is_at_home = countries.array(peer, _are_at_home)
    is_usual = countries.array(country, lambda rows, profile: is_in(rows, _usual_countries(profile)))
    met = {
        "voice_over_2h": (event_type == _VOICE) & (_or_zero(columns["duration_s"]) > LONG_CALL_S),
        "over_10_gb": usage > HEAVY_USAGE_BYTES,
        "unusual_roaming_country": is_roaming & ~is_null(country) & ~is_usual,
        "unknown_roaming_partner": is_roaming & is_null(columns["roaming_partner"]),
        "international_voice_or_sms": ((event_type == _VOICE) | (event_type == _SMS))
        & starts_with(peer, b"+")
        & ~is_at_home,
    }
    bits = np.zeros(len(peer), np.uint8)
    for index, reason in enumerate(WEIGHTS):
        bits |= met[reason].astype(np.uint8) << np.uint8(index)
    return bits


def _are_at_home(numbers: pa.StringArray, profile: CountryProfile) -> Mask:
    mask = starts_with(numbers, f"+{profile.calling_code}".encode())
    for code in profile.overseas_calling_codes:
        mask = mask | starts_with(numbers, f"+{code}".encode())
    return mask


_VOICE, _SMS = EVENT_TYPES.index("voice"), EVENT_TYPES.index("sms")


def _or_zero(numbers: pa.Int64Array) -> npt.NDArray[np.int64]:
    return numbers.fill_null(0).to_numpy()  # type: ignore[no-any-return]


@cache
def _usual_countries(profile: CountryProfile) -> pa.StringArray:
    return pa.array([profile.code, *profile.usual_roaming_countries])


def _cases() -> list[list[str]]:
    return [[reason for index, reason in enumerate(WEIGHTS) if bits >> index & 1] for bits in range(1 << len(WEIGHTS))]


_REASONS = pa.array(_cases(), pa.list_(pa.string()))
_SCORES = pa.array([min(1.0, round(sum(WEIGHTS[reason] for reason in case), 2)) for case in _cases()])


def scores(bits: npt.NDArray[np.uint8]) -> pa.DoubleArray:
    """Return the fraud score of each row, 0 to 1, from the result of `conditions`."""
    return _SCORES.take(pa.array(bits))


def reasons(bits: npt.NDArray[np.uint8]) -> pa.ListArray:
    """Return the reasons of each row from the result of `conditions`."""
    return _REASONS.take(pa.array(bits))
