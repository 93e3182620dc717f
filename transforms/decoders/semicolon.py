"""`;`-separated records: FR with exactly eight fields, MA with up to seven of which trailing ones may be missing."""

import polars as pl

from schemas.raw import RawFormat
from transforms.decoders import Decoder

_FR_FIELDS = ("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")
_MA_FIELDS = ("imsi", "msisdn", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")


def _split(payloads: pl.Series, fields: tuple[str, ...]) -> pl.DataFrame:
    # One part more than there are fields: it is null unless the payload has too many.
    return payloads.str.split_exact(";", len(fields)).struct.rename_fields([*fields, "excess"]).struct.unnest()


def decode_fr(payloads: pl.Series) -> pl.DataFrame:
    """Read FR records: fewer or more than eight fields means that some are not what their place says."""
    frame = _split(payloads, _FR_FIELDS)
    return frame.select(*_FR_FIELDS, is_malformed=pl.col("event_time").is_null() | pl.col("excess").is_not_null())


def decode_ma(payloads: pl.Series) -> pl.DataFrame:
    """Read MA records: trailing fields that are not there are null."""
    frame = _split(payloads, _MA_FIELDS)
    return frame.select(*_MA_FIELDS, is_malformed=pl.col("excess").is_not_null())


_HAS_SEMICOLON = pl.col("text").str.contains(";", literal=True)

FR_SEMICOLON = Decoder(RawFormat.FR_SEMICOLON, _HAS_SEMICOLON, decode_fr, ";".join(_FR_FIELDS))
MA_SEMICOLON = Decoder(RawFormat.MA_SEMICOLON, _HAS_SEMICOLON, decode_ma, ";".join(_MA_FIELDS))
