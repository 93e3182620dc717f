"""SN records of fixed width: 102 characters."""

import polars as pl

from schemas.raw import RawFormat
from transforms.decoders import Decoder

_WIDTHS = {
    "imsi": 15,
    "msisdn": 16,
    "imei": 15,
    "cell_id": 10,
    "rat": 2,
    "bytes_up": 12,
    "bytes_down": 12,
    "event_time": 20,
}
WIDTH = sum(_WIDTHS.values())
_EVENT_TIME_AT = WIDTH - _WIDTHS["event_time"]


def _columns() -> list[pl.Expr]:
    columns, start = [], 0
    for name, width in _WIDTHS.items():
        columns.append(pl.col("text").str.slice(start, width).alias(name))
        start += width
    return columns


_COLUMNS = _columns()


def decode(payloads: pl.Series) -> pl.DataFrame:
    """Cut fixed-width records by character."""
    return payloads.to_frame("text").select(*_COLUMNS, is_malformed=pl.lit(False))


# The blanks that pad the event time may have been trimmed on the way, so a record may be shorter than 102 characters.
# One that is so short that its event time is gone must come in full length.
_LENGTH = pl.col("text").str.len_chars()
_IS_LONG_ENOUGH = (_LENGTH > _EVENT_TIME_AT) | (pl.col("raw_value").bin.size("b") == WIDTH)
SN_FIXED_WIDTH = Decoder(
    RawFormat.SN_FIXED_WIDTH,
    _IS_LONG_ENOUGH & (_LENGTH <= WIDTH) & ~pl.col("text").str.contains(r"[|;={]"),
    decode,
)
