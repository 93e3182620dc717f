"""SN's records: fixed width."""

import polars as pl

from orion_beam.generator.formats import Rendering, mostly
from orion_beam.generator.times import Spelling
from orion_beam.transforms.decoders.sn_fixed_width import LAYOUT


def _padded(name: str, width: int) -> pl.Expr:
    text = pl.col(name)
    # An absent count is blank; a present one is padded with zeros.
    padded = text.str.zfill(width) if name in ("bytes_up", "bytes_down") else text
    return padded.fill_null("").str.pad_end(width)


RENDERING = Rendering(
    fields=tuple(LAYOUT.widths),
    payload=pl.concat_str([_padded(name, width) for name, width in LAYOUT.widths.items()]),
    spellings=mostly(Spelling.ISO, Spelling.BASIC, Spelling.COMPACT_LOCAL, Spelling.EPOCH_SECONDS),
    is_fixed_width=True,
    breakages={"cut off": lambda payload: payload.str.head(60)},
)
