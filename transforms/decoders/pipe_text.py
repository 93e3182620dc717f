"""Short pipe text: `imsi|msisdn|event_type|duration|bytes_up|bytes_down`, from any country."""

import polars as pl

from schemas.raw import RawFormat
from transforms.decoders import Decoder

_FIELDS = ("imsi", "msisdn", "event_type", "duration_s", "bytes_up", "bytes_down")


def decode(payloads: pl.Series) -> pl.DataFrame:
    """Read pipe text of exactly six fields."""
    parts = payloads.str.split_exact("|", len(_FIELDS)).struct.rename_fields([*_FIELDS, "excess"]).struct.unnest()
    is_malformed = pl.col("bytes_down").is_null() | pl.col("excess").is_not_null()
    return parts.select(*_FIELDS, is_malformed=is_malformed)


PIPE_TEXT = Decoder(
    RawFormat.PIPE_TEXT,
    pl.col("text").str.contains("|", literal=True),
    decode,
    "imsi|msisdn|event_type|duration|bytes_up|bytes_down",
)
