"""SN's records: `KEY=VALUE` pairs, separated by `|`."""

import polars as pl

from orion_beam.generator.formats import Rendering, mostly
from orion_beam.generator.times import Spelling

# Generated records have no EVENT.
_KEYS = {
    "IMSI": "imsi", "MSISDN": "msisdn", "IMEI": "imei", "CELL": "cell_id", "RAT": "rat", "UP": "bytes_up",
    "DOWN": "bytes_down", "TS": "event_time",
}  # fmt: skip


def _pairs(*order: str) -> pl.Expr:
    pairs = [pl.concat_str(pl.lit(f"{key}="), _KEYS[key]) for key in order]
    return pl.concat_str(pairs, separator="|", ignore_nulls=True)


RENDERING = Rendering(
    fields=tuple(_KEYS.values()),
    # Two versions of the mediation software write the pairs in two orders.
    payload=pl.when(pl.col("key").str.ends_with("7"))
    .then(_pairs("TS", "MSISDN", "IMSI", "IMEI", "DOWN", "UP", "RAT", "CELL"))
    .otherwise(_pairs(*_KEYS)),
    spellings=mostly(Spelling.ISO, Spelling.BASIC, Spelling.EPOCH_SECONDS, Spelling.COMPACT_LOCAL),
)
