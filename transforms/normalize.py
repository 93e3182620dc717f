"""NormalizeCdrs: valid CDRs in one form, whatever country and format they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import apache_beam as beam
import polars as pl
import polars_hash as plh
import pyarrow as pa
import pyarrow.compute as pc

from schemas.cdr import NORMALIZED_SCHEMA
from schemas.codes import Stage
from schemas.country import CountryProfile
from schemas.fields import RAT_GENERATIONS, SUBSCRIBER_TYPES
from transforms.batches import SplitBatch, batch_of, columns_of
from transforms.compiled import numbers_of
from transforms.countries import Countries
from transforms.numbering import e164, type_allocation_codes
from transforms.plmns import home_networks
from transforms.rejects import no_rejects
from transforms.rules import rat_indices
from transforms.stage import StageOutput, split_stage
from transforms.texts import chosen, places_among
from transforms.times import as_times, dates_and_hours, to_local

_GENERATIONS = pa.array(RAT_GENERATIONS.values())
_SUBSCRIBER_TYPES = pa.array(SUBSCRIBER_TYPES)
_CONTENT_HASH = plh.col("content").nchash.xxh3_128()


def normalize_batch(batch: pa.RecordBatch, profiles: Mapping[str, CountryProfile]) -> SplitBatch:
    """Bring every row into the unified form.

    Args:
        batch: rows of `schemas.cdr.VALIDATED_SCHEMA`.
        profiles: by code; give calling code and time zone.

    Returns:
        All rows, accepted, as `schemas.cdr.NORMALIZED_SCHEMA`, in order.
    """
    countries, columns = Countries.of(batch, profiles), columns_of(batch)
    home = home_networks(columns["imsi"])
    local = countries.array(as_times(columns["event_time"]), lambda times, profile: to_local(times, profile.time_zone))
    dates, hours = dates_and_hours(local)
    columns |= {
        "cdr_id": _cdr_ids(batch),
        "msisdn": countries.column(columns["msisdn"], e164),
        # A short code or a name has no such form.
        "peer_msisdn": pc.coalesce(countries.column(columns["peer_msisdn"], e164), columns["peer_msisdn"]),
        "tac": type_allocation_codes(columns["imei"]),
        "subscriber_type": chosen(_SUBSCRIBER_TYPES, places_among(columns["subscriber_type"], SUBSCRIBER_TYPES)),
        "rat": chosen(_GENERATIONS, rat_indices(columns["rat"])),
        "mcc": home.mcc,
        "mnc": home.mnc,
        "event_date": numbers_of(dates, pa.date32()),
        "event_hour": numbers_of(hours, pa.int32()),
        "timezone": countries.column(batch.column("country"), _time_zones),
        # Of transforms that a user switches on.
        "partial": pa.nulls(batch.num_rows, pa.string()),
        "duplicate_of": pa.nulls(batch.num_rows, pa.string()),
    }
    return SplitBatch(batch_of(columns, NORMALIZED_SCHEMA), no_rejects())


def _time_zones(rows: pa.Array, profile: CountryProfile) -> pa.StringArray:
    return pa.repeat(profile.time_zone, len(rows))


def _cdr_ids(batch: pa.RecordBatch) -> pa.StringArray:
    """Return the idempotence key: XXH3-128 of country, event time and payload.

    It is made of what arrived, not of what the rules make of it, so that a replay with mended rules writes the same
    key again. The event time tells apart pipe text that has none in its payload.
    """
    times = batch.column("event_time").cast(pa.int64()).cast(pa.string())
    payloads = batch.column("raw_value").cast(pa.string())
    content = pc.binary_join_element_wise(batch.column("country"), times, payloads, "|")
    hashes = pl.DataFrame({"content": content}).select(_CONTENT_HASH).to_series()
    return hashes.cast(pl.String).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())


@dataclass(eq=False)
class NormalizeCdrs(beam.PTransform):  # type: ignore[misc]
    """Brings valid CDRs into one form: E.164 numbers, MCC and MNC, RAT generations, UTC and local time.

    In: `pa.RecordBatch` of `schemas.cdr.VALIDATED_SCHEMA`. Out: StageOutput of accepted batches
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
        return split_stage(batches, Stage.NORMALIZE, lambda: partial(normalize_batch, profiles=self.profiles))
