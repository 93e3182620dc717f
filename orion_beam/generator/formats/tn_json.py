"""TN's records: nested JSON."""

import polars as pl

from orion_beam.generator.formats import Rendering, bare_member, member, members, mostly
from orion_beam.generator.times import Spelling

RENDERING = Rendering(
    fields=("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time"),
    payload=pl.concat_str(
        pl.lit('{"subscriber":{'),
        members(member("imsi", "imsi"), member("msisdn", "msisdn"), member("imei", "imei")),
        pl.lit('},"network":{'),
        members(member("cell", "cell_id"), member("rat", "rat")),
        pl.lit('},"usage":{'),
        members(bare_member("up", "bytes_up", "count_quote"), bare_member("down", "bytes_down", "count_quote")),
        pl.concat_str(pl.lit("},"), bare_member("timestamp", "event_time", "time_quote"), pl.lit("}")).fill_null("}}"),
    ),
    spellings=mostly(
        Spelling.ISO_MILLIS, Spelling.ISO, Spelling.ISO_SHORT_OFFSET, Spelling.EPOCH_SECONDS, Spelling.EPOCH_MILLIS
    ),
    is_json=True,
)
