"""Flat JSON."""

import polars as pl

from orion_beam.generator.formats import Rendering, bare_member, member, members, mostly
from orion_beam.generator.times import Spelling

_TEXTS = {
    "event_type": "event_type", "imsi": "imsi", "msisdn": "msisdn", "imei": "imei", "cell_id": "cell_id", "rat": "rat",
    "lac_tac": "lac_tac", "subscriber_type": "subscriber_type", "charging_id": "charging_id", "call_type": "call_type",
    "apn": "apn", "sms_type": "sms_type",
}  # fmt: skip
_COUNTS = {
    "duration": "duration_s", "bytes_uploaded": "bytes_up", "bytes_downloaded": "bytes_down",
    "message_length": "message_length",
}  # fmt: skip

RENDERING = Rendering(
    fields=(*_TEXTS.values(), "peer_msisdn", *_COUNTS.values(), "event_time"),
    payload=pl.concat_str(
        pl.lit("{"),
        members(
            *[member(name, column) for name, column in _TEXTS.items()],
            pl.when(pl.col("sms_type").is_not_null())
            .then(member("destination_number", "peer_msisdn"))
            .otherwise(member("called_number", "peer_msisdn")),
            *[bare_member(name, column, "count_quote") for name, column in _COUNTS.items()],
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
