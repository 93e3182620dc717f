"""NormalizeCdrs: brings valid CDRs of all countries and formats into one form."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import polars as pl
import polars_hash as plh
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.cdr import NORMALIZED_SCHEMA
from orion_beam.schemas.codes import Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import RAT_GENERATIONS, SUBSCRIBER_TYPES
from orion_beam.transforms.arrow.compiled import numbers_of
from orion_beam.transforms.arrow.texts import index_among, take_texts
from orion_beam.transforms.arrow.times import as_times, dates_and_hours, to_local
from orion_beam.transforms.rules.networks import home_networks
from orion_beam.transforms.rules.numbering import e164, type_allocation_codes
from orion_beam.transforms.rules.rules import rat_indices
from orion_beam.transforms.stage.batches import SplitBatch, batch_of, columns_of
from orion_beam.transforms.stage.extra_columns import with_extra_columns
from orion_beam.transforms.stage.join_countries import Countries
from orion_beam.transforms.stage.rejects import no_rejects
from orion_beam.transforms.stage.split import Split, StageTransform

__all__ = ["NormalizeCdrs", "normalize_batch"]

_GENERATIONS = pa.array(RAT_GENERATIONS.values())
_SUBSCRIBER_TYPES = pa.array(SUBSCRIBER_TYPES)
_CONTENT_HASH = plh.col("content").nchash.xxh3_128()


def normalize_batch(batch: pa.RecordBatch, profiles: Mapping[str, CountryProfile]) -> SplitBatch:
    """Bring every row into the unified form.

    Args:
        batch: Rows of `cdr.VALIDATED_SCHEMA`.
        profiles: Country profiles by code. They give the calling code and the time zone.

    Returns:
        All rows, accepted and in order, as `cdr.NORMALIZED_SCHEMA`.
    """
    countries, columns = Countries.of(batch, profiles), columns_of(batch)
    home = home_networks(columns["imsi"])
    local = countries.array(as_times(columns["event_time"]), lambda times, profile: to_local(times, profile.time_zone))
    dates, hours = dates_and_hours(local)
    columns |= {
        "cdr_id": _cdr_ids(batch),
        "msisdn": countries.column(columns["msisdn"], e164),
        # A short code or a name has no E.164 form and stays as it is.
        "peer_msisdn": pc.coalesce(countries.column(columns["peer_msisdn"], e164), columns["peer_msisdn"]),
        "tac": type_allocation_codes(columns["imei"]),
        "subscriber_type": take_texts(_SUBSCRIBER_TYPES, index_among(columns["subscriber_type"], SUBSCRIBER_TYPES)),
        "rat": take_texts(_GENERATIONS, rat_indices(columns["rat"])),
        "mcc": home.mcc,
        "mnc": home.mnc,
        "event_date": numbers_of(dates, pa.date32()),
        "event_hour": numbers_of(hours, pa.int32()),
        "timezone": countries.column(batch.column("country"), _time_zones),
        # The optional transforms TagPartials and FlagDuplicates fill these columns.
        "partial": pa.nulls(batch.num_rows, pa.string()),
        "duplicate_of": pa.nulls(batch.num_rows, pa.string()),
    }
    return SplitBatch(batch_of(columns, with_extra_columns(NORMALIZED_SCHEMA, batch)), no_rejects())


def _time_zones(rows: pa.Array, profile: CountryProfile) -> pa.StringArray:
    return pa.repeat(profile.time_zone, len(rows))


def _cdr_ids(batch: pa.RecordBatch) -> pa.StringArray:
    """Return the idempotence key: XXH3-128 of country, event time and payload.

    The key does not depend on the output of the rules, so that a replay with mended rules writes the same key again.
    The event time is needed for pipe text, whose payload holds none: it distinguishes records with equal payloads.
    """
    times = batch.column("event_time").cast(pa.int64()).cast(pa.string())
    payloads = batch.column("raw_value").cast(pa.string())
    content = pc.binary_join_element_wise(batch.column("country"), times, payloads, "|")
    hashes = pl.DataFrame({"content": content}).select(_CONTENT_HASH).to_series()
    return hashes.cast(pl.String).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())


@dataclass(eq=False)
class NormalizeCdrs(StageTransform):
    """Brings valid CDRs into one form: E.164 numbers, MCC and MNC, RAT generations, UTC and local time.

    In: `pa.RecordBatch` of `cdr.VALIDATED_SCHEMA`. Out: StageOutput of accepted batches (`cdr.NORMALIZED_SCHEMA`) and
    dead letters (only `internal_error`, a bug). Each row goes to exactly one of the two, and rows keep their order.

    Attributes:
        profiles: Country profiles by code.
    """

    stage = Stage.NORMALIZE

    profiles: Mapping[str, CountryProfile]

    def prepare(self) -> Split:
        """Return the function over a batch."""
        return partial(normalize_batch, profiles=self.profiles)
