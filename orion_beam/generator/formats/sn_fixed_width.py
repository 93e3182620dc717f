"""SN's records: fixed width."""

import polars as pl

from orion_beam.generator.formats import Rendering, mostly
from orion_beam.generator.times import Spelling

_WIDTHS = {
    "imsi": 15, "msisdn": 16, "imei": 15, "cell_id": 10, "rat": 2, "bytes_up": 12, "bytes_down": 12, "event_time": 20,
}  # fmt: skip


def _padded(name: str, width: int) -> pl.Expr:
    text = pl.col(name)
    # An absent count is blank; a present one is padded with zeros.
    padded = text.str.zfill(width) if name in ("bytes_up", "bytes_down") else text
    return padded.fill_null("").str.pad_end(width)


RENDERING = Rendering(
    fields=tuple(_WIDTHS),
    payload=pl.concat_str([_padded(name, width) for name, width in _WIDTHS.items()]),
    spellings=mostly(Spelling.ISO, Spelling.BASIC, Spelling.COMPACT_LOCAL, Spelling.EPOCH_SECONDS),
    is_fixed_width=True,
    breakages={"cut off": lambda payload: payload.str.head(60)},
)
