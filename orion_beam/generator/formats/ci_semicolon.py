"""CI's records: sixteen fields, separated by `;`."""

import polars as pl

from orion_beam.generator.formats import Rendering, join_fields, mostly
from orion_beam.generator.times import Spelling

_COLUMNS = (
    "imsi", "msisdn", "imei", "cell_id", "rat", "event_time", "duration_s", "peer_msisdn", "bytes_up", "bytes_down",
    "charging_id",
)  # fmt: skip


def _record_type() -> pl.Expr:
    """Return the record type of each event type; an unknown event type stays as it is."""
    event_type = pl.col("event_type").str.to_lowercase()
    return (
        pl.when(event_type == "voice")
        .then(pl.when(pl.col("call_type") == "incoming").then(pl.lit("MTC")).otherwise(pl.lit("MOC")))
        .when(event_type == "sms")
        .then(pl.when(pl.col("sms_type") == "mt").then(pl.lit("SMT")).otherwise(pl.lit("SMO")))
        .when(event_type == "data")
        .then(pl.lit("PGW"))
        .otherwise(pl.col("event_type"))
        .fill_null("")
    )


RENDERING = Rendering(
    fields=("event_type", *_COLUMNS),
    # Records have no sequence number: a node's records are drawn at random for this format, so numbers would have gaps.
    payload=pl.concat_str(_record_type(), pl.lit(";ABJ-1;;"), join_fields(";", _COLUMNS), pl.lit(";;0")),
    spellings=mostly(Spelling.COMPACT_LOCAL, Spelling.ISO, Spelling.EPOCH_MILLIS),
    breakages={
        "columns missing": lambda payload: payload.str.replace(r";[^;]*;[^;]*$", ""),
        "columns too many": lambda payload: payload + ";0",
    },
)
