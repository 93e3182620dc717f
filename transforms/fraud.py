"""The rule-based fraud score, model `rules-1`: five conditions with weights, summed and capped at 1.

A row's conditions are one number of five bits, and score and reasons are looked up by it: 32 cases, computed once.
"""

from functools import cache

import polars as pl

from schemas.country import CountryProfile

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
"""Reason to weight."""


@cache
def conditions(profile: CountryProfile) -> pl.Expr:
    """Return one bit for each reason of WEIGHTS, in order, as UInt8.

    Reads event_type, duration_s, bytes_up, bytes_down, peer_msisdn, is_roaming, roaming_country, roaming_partner.
    """
    usage = pl.col("bytes_up").fill_null(0).cast(pl.Float64) + pl.col("bytes_down").fill_null(0)
    peer = pl.col("peer_msisdn")
    is_abroad = peer.str.starts_with("+") & ~peer.str.starts_with(f"+{profile.calling_code}")
    usual = [profile.code, *profile.usual_roaming_countries]
    met = {
        "voice_over_2h": (pl.col("event_type") == "voice") & (pl.col("duration_s") > LONG_CALL_S),
        "over_10_gb": usage > HEAVY_USAGE_BYTES,
        "unusual_roaming_country": pl.col("is_roaming") & ~pl.col("roaming_country").is_in(usual),
        "unknown_roaming_partner": pl.col("is_roaming") & pl.col("roaming_partner").is_null(),
        "international_voice_or_sms": pl.col("event_type").is_in(["voice", "sms"]) & is_abroad,
    }
    bits = [met[reason].fill_null(False).cast(pl.UInt8) * (1 << index) for index, reason in enumerate(WEIGHTS)]
    return pl.sum_horizontal(bits).cast(pl.UInt8)


def _cases() -> list[list[str]]:
    return [[reason for index, reason in enumerate(WEIGHTS) if bits >> index & 1] for bits in range(1 << len(WEIGHTS))]


_REASONS = pl.Series(_cases(), dtype=pl.List(pl.String))
_SUMS = [round(sum(WEIGHTS[reason] for reason in case), 2) for case in _cases()]
_SCORES = pl.Series([min(1.0, score) for score in _SUMS], dtype=pl.Float64)


def scores(bits: pl.Series) -> pl.Series:
    """Return the fraud score, 0 to 1, of rows that meet these conditions."""
    return _SCORES.gather(bits)


def reasons(bits: pl.Series) -> pl.Series:
    """Return the reasons of rows that meet these conditions."""
    return _REASONS.gather(bits)
