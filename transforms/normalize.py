"""NormalizeCdrs: valid CDRs in one form, whatever country and format they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial

import apache_beam as beam
import polars as pl
import polars_hash as plh
import pyarrow as pa

from schemas.cdr import NORMALIZED_SCHEMA
from schemas.codes import Stage
from schemas.country import CountryProfile
from schemas.fields import RAT_GENERATIONS, SUBSCRIBER_TYPES
from transforms import numbering
from transforms.batches import SplitBatch, batch_of, frame_of
from transforms.rejects import no_rejects
from transforms.rules import rat_name
from transforms.stage import StageOutput, by_country, split_stage


def normalize_batch(batch: pa.RecordBatch, profile: CountryProfile) -> SplitBatch:
    """Bring every row into the unified form.

    Args:
        batch: rows of `schemas.cdr.VALIDATED_SCHEMA`.
        profile: gives calling code and time zone.

    Returns:
        All rows, accepted, as `schemas.cdr.NORMALIZED_SCHEMA`, in order.
    """
    normalized = frame_of(batch).with_columns(*_local_time(profile), *_unified(profile), _cdr_id())
    return SplitBatch(batch_of(normalized, NORMALIZED_SCHEMA), no_rejects())


def _local_time(profile: CountryProfile) -> list[pl.Expr]:
    local = pl.col("event_time").dt.convert_time_zone(profile.time_zone)
    return [
        local.dt.date().alias("event_date"),
        local.dt.hour().cast(pl.Int32).alias("event_hour"),
        pl.lit(profile.time_zone).alias("timezone"),
    ]


@cache
def _unified(profile: CountryProfile) -> list[pl.Expr]:
    peer = pl.col("peer_msisdn")
    subscriber_type = pl.col("subscriber_type").str.to_lowercase()
    return [
        numbering.e164("msisdn", profile).alias("msisdn"),
        # A peer may be a short code or a name, which has no international form.
        pl.when(peer.str.contains(r"^(?:\+|00)?[0-9]{10,15}$"))
        .then(numbering.e164("peer_msisdn", profile))
        .otherwise(peer)
        .alias("peer_msisdn"),
        numbering.mcc().alias("mcc"),
        numbering.mnc().alias("mnc"),
        rat_name().replace_strict(RAT_GENERATIONS, default=None, return_dtype=pl.String).alias("rat"),
        pl.when(subscriber_type.is_in(SUBSCRIBER_TYPES)).then(subscriber_type).alias("subscriber_type"),
    ]


def _cdr_id() -> pl.Expr:
    """Return the idempotence key: XXH3-128 of country, event time and payload.

    It is made of what arrived, not of what the rules make of it, so that a replay with mended rules writes the same
    key again. The event time tells apart pipe text that has none in its payload.
    """
    content = plh.concat_str(
        pl.col("country"), pl.col("event_time").dt.timestamp("ms"), pl.col("raw_value").cast(pl.String), separator="|"
    )
    return content.nchash.xxh3_128().cast(pl.String).alias("cdr_id")


@dataclass(eq=False)
class NormalizeCdrs(beam.PTransform):  # type: ignore[misc]
    """Brings valid CDRs into one form: E.164 numbers, MCC and MNC, RAT generations, UTC and local time.

    In: `pa.RecordBatch` of `schemas.cdr.VALIDATED_SCHEMA`, one country a batch. Out: StageOutput of accepted batches
    (`schemas.cdr.NORMALIZED_SCHEMA`) and dead letters (only `internal_error`, a bug). Every row goes to exactly one
    of the two; order holds.

    Attributes:
        profiles: country profiles by code.
    """

    profiles: Mapping[str, CountryProfile]

    def __post_init__(self) -> None:
        """Name the transform."""
        super().__init__()

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no named tuples of outputs
    def expand(self, batches: beam.PCollection) -> StageOutput:
        """Split each batch into normalized rows and dead letters."""
        return split_stage(batches, Stage.NORMALIZE, partial(by_country, normalize_batch, self.profiles))
