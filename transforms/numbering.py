"""The numbering plans: which country an MCC belongs to, how long its MNCs are, and the one form of an MSISDN.

`data/mcc.csv` lists ITU-T E.212 mobile country codes: facts, compiled for this project on 2026-11-22. Where a plan has
MNCs of both lengths (India's 405, Trinidad's 374) the longer one is listed.
"""

from functools import cache
from pathlib import Path

import polars as pl

from schemas.country import CountryProfile

_MCC_FILE = Path(__file__).parent / "data" / "mcc.csv"


@cache
def _mobile_country_codes() -> pl.DataFrame:
    return pl.read_csv(_MCC_FILE, schema={"mcc": pl.String, "country": pl.String, "mnc_digits": pl.Int64})


def mcc() -> pl.Expr:
    """Return the mobile country code of the column `imsi`: its first three digits (3GPP TS 23.003 clause 2.2)."""
    return pl.col("imsi").str.slice(0, 3)


def mnc() -> pl.Expr:
    """Return the mobile network code of the column `imsi`: two or three digits by the MCC's plan."""
    long = _mobile_country_codes().filter(pl.col("mnc_digits") == 3)["mcc"].to_list()
    return pl.when(mcc().is_in(long)).then(pl.col("imsi").str.slice(3, 3)).otherwise(pl.col("imsi").str.slice(3, 2))


@cache
def countries_by_mcc() -> dict[str, str]:
    """Return the ISO 3166-1 alpha-2 country of each mobile country code."""
    return dict(_mobile_country_codes().select("mcc", "country").iter_rows())


def e164(column: str, profile: CountryProfile) -> pl.Expr:
    """Return a column of subscriber numbers in one form: + and digits (ITU-T E.164).

    `+` and `00` start an international number; a national one has the country's trunk prefix and length; all else is
    taken for an international number without a prefix. The numbers must keep the rule `invalid_msisdn`.
    """
    number = pl.col(column)
    prefixed = pl.when(number.str.starts_with("+")).then(number)
    form = prefixed.when(number.str.starts_with("00")).then(pl.lit("+") + number.str.slice(2))
    if profile.trunk_prefix is not None:
        is_national = number.str.starts_with(profile.trunk_prefix) & (
            number.str.len_bytes() == profile.national_digits + len(profile.trunk_prefix)
        )
        national = pl.lit(f"+{profile.calling_code}") + number.str.slice(len(profile.trunk_prefix))
        form = form.when(is_national).then(national)
    return form.otherwise(pl.lit("+") + number)
