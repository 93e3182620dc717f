"""SN records of `KEY=VALUE` pairs joined by `|`, in any order."""

import polars as pl

from schemas.fields import BLANKS
from schemas.raw import RawFormat
from transforms.decoders import Decoder

_KEYS = {
    "imsi": "IMSI",
    "msisdn": "MSISDN",
    "imei": "IMEI",
    "cell_id": "CELL",
    "rat": "RAT",
    "bytes_up": "UP",
    "bytes_down": "DOWN",
    "event_time": "TS",
}


def _value_of(key: str) -> pl.Expr:
    # Of a key that comes twice the first counts.
    return pl.col("text").str.extract(rf"(?:^|\|)[{BLANKS}]*{key}[{BLANKS}]*=([^|]*)")


_COLUMNS = [_value_of(key).alias(name) for name, key in _KEYS.items()]


def decode(payloads: pl.Series) -> pl.DataFrame:
    """Read key-value records: unknown keys are ignored, absent ones are null."""
    return payloads.to_frame("text").select(*_COLUMNS, is_malformed=pl.lit(False))


SN_KEY_VALUE = Decoder(RawFormat.SN_KEY_VALUE, pl.col("text").str.contains("^[^|]*="), decode)
