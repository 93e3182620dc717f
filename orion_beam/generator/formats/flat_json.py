"""Flat JSON records, which every country sends."""

import polars as pl

from orion_beam.generator.formats import Rendering, bare_member, member, members, mostly
from orion_beam.generator.times import Spelling

_TEXTS = (
    "event_type", "imsi", "msisdn", "imei", "cell_id", "rat", "lac_tac", "subscriber_type", "charging_id", "call_type",
    "apn", "sms_type",
)  # fmt: skip
_NAMES = {"duration_s": "duration", "bytes_up": "bytes_uploaded", "bytes_down": "bytes_downloaded"}
_COUNTS = ("duration_s", "bytes_up", "bytes_down", "message_length")

RENDERING = Rendering(
    fields=(*_TEXTS, "peer_msisdn", *_COUNTS, "event_time"),
    payload=pl.concat_str(
        pl.lit("{"),
        members(
            *[member(_NAMES.get(field, field), field) for field in _TEXTS],
            pl.when(pl.col("sms_type").is_not_null())
            .then(member("destination_number", "peer_msisdn"))
            .otherwise(member("called_number", "peer_msisdn")),
            *[bare_member(_NAMES.get(field, field), field, "count_quote") for field in _COUNTS],
            bare_member("timestamp", "event_time", "time_quote"),
            member("country", "country"),
        ),
        pl.lit("}"),
    ),
    spellings=mostly(
        Spelling.ISO, Spelling.ISO_MILLIS, Spelling.ISO_OFFSET, Spelling.EPOCH_SECONDS, Spelling.EPOCH_MILLIS
    ),
    is_json=True,
)
