"""EnrichCdrs: who the subscriber's operator is, where the cell stands, what roaming it is, how suspicious it looks."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial

import apache_beam as beam
import polars as pl
import pyarrow as pa

from schemas.cdr import ENRICHED_SCHEMA
from schemas.codes import Stage
from schemas.country import CountryProfile
from transforms import fraud
from transforms.batches import SplitBatch, batch_of, country_of, frame_of
from transforms.lookups import Lookup, load_cells, load_subscribers
from transforms.numbering import countries_by_mcc
from transforms.rejects import no_rejects
from transforms.stage import Split, StageOutput, split_stage


@dataclass(frozen=True)
class ReferenceData:
    """What enrichment looks up.

    Attributes:
        cells: by cell_id: country, plmn, place, lat, lon.
        subscribers: by imsi: segment, plan, subscriber_type.
        operators: operator name by PLMN (MCC and MNC), of all countries with a profile.
    """

    cells: Lookup
    subscribers: Lookup
    operators: Mapping[str, str]


def operators_of(profiles: Mapping[str, CountryProfile]) -> dict[str, str]:
    """Return the operator's name for each PLMN of the profiles."""
    operators = [operator for profile in profiles.values() for operator in profile.operators]
    return {plmn: operator.name for operator in operators for plmn in operator.plmns}


def enrich_batch(batch: pa.RecordBatch, profile: CountryProfile, reference: ReferenceData) -> SplitBatch:
    """Add place, segment, operator, roaming and fraud score to every row.

    Args:
        batch: rows of `schemas.cdr.NORMALIZED_SCHEMA`.
        profile: the country that the CDRs come from.
        reference: cells, subscribers, operators.

    Returns:
        All rows, accepted, as `schemas.cdr.ENRICHED_SCHEMA`, in order.
    """
    frame = frame_of(batch)
    cells = reference.cells.find(frame["cell_id"])
    subscribers = reference.subscribers.find(frame["imsi"])
    operators = partial(_replace, mapping=reference.operators)
    frame = frame.with_columns(
        *cells.select(geo_place="place", geo_lat="lat", geo_lon="lon", cell_country="country", cell_plmn="plmn"),
        *subscribers.select("segment", "plan", known_type="subscriber_type"),
        home_operator=operators(pl.col("mcc") + pl.col("mnc")),
        home_country=_replace(pl.col("mcc"), countries_by_mcc()),
    ).with_columns(
        pl.coalesce("subscriber_type", "known_type").alias("subscriber_type"),
        serving_operator=operators(pl.col("cell_plmn")),
    )
    frame = frame.with_columns(_roaming(profile).alias("roaming"))
    frame = frame.with_columns(*_roaming_ends())
    bits = frame.select(fraud.conditions(profile)).to_series()
    frame = frame.with_columns(
        fraud.scores(bits).alias("fraud_score"),
        fraud.reasons(bits).alias("fraud_reasons"),
        pl.lit(fraud.MODEL_VERSION).alias("model_version"),
    )
    return SplitBatch(batch_of(frame, ENRICHED_SCHEMA), no_rejects())


def _replace(column: pl.Expr, mapping: Mapping[str, str]) -> pl.Expr:
    return column.replace_strict(mapping, default=None, return_dtype=pl.String)


@cache
def _roaming(profile: CountryProfile) -> pl.Expr:
    """Return the roaming class: the IMSI's PLMN against the country, and against the cell where it is known.

    A PLMN that no operator of ours has (an MVNO's, say) is `unknown`, never `home`.
    """
    is_ours = pl.col("mcc").is_in(profile.mccs)
    return (
        pl.when(~is_ours & pl.col("home_country").is_not_null())
        .then(pl.lit("inbound"))
        .when(~is_ours | pl.col("home_operator").is_null())
        .then(pl.lit("unknown"))
        .when(pl.col("cell_country") != profile.code)
        .then(pl.lit("outbound"))
        .when(pl.col("serving_operator") != pl.col("home_operator"))
        .then(pl.lit("national"))
        .otherwise(pl.lit("home"))
    )


@cache
def _roaming_ends() -> list[pl.Expr]:
    """Return is_roaming, and who and which country is at the other end of the roaming."""
    roaming = pl.col("roaming")
    is_at_other_end = roaming.is_in(["outbound", "national"])
    return [
        roaming.is_in(["inbound", "outbound", "national"]).alias("is_roaming"),
        pl.when(roaming == "inbound")
        .then("home_operator")
        .when(is_at_other_end)
        .then("serving_operator")
        .alias("roaming_partner"),
        pl.when(roaming == "inbound")
        .then("home_country")
        .when(is_at_other_end)
        .then("cell_country")
        .alias("roaming_country"),
    ]


@dataclass(eq=False)
class EnrichCdrs(beam.PTransform):  # type: ignore[misc]
    """Adds operator, place, segment, plan, roaming class and fraud score.

    In: `pa.RecordBatch` of `schemas.cdr.NORMALIZED_SCHEMA`, one country a batch. Out: StageOutput of accepted batches
    (`schemas.cdr.ENRICHED_SCHEMA`) and dead letters (only `internal_error`, a bug). Every row goes to exactly one of
    the two; order holds. Reference data is as fresh as the worker: it is loaded when a worker starts, once a process.

    Attributes:
        profiles: country profiles by code.
        operators: operator name by PLMN, see `operators_of`.
        cells: path of the cells (CSV or Parquet), see `transforms.lookups.CELL_COLUMNS`.
        subscribers: path of the subscribers (CSV or Parquet), see `transforms.lookups.SUBSCRIBER_COLUMNS`.
    """

    profiles: Mapping[str, CountryProfile]
    operators: Mapping[str, str]
    cells: str
    subscribers: str

    def __post_init__(self) -> None:
        """Name the transform."""
        super().__init__()

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no named tuples of outputs
    def expand(self, batches: beam.PCollection) -> StageOutput:
        """Split each batch into enriched rows and dead letters."""
        return split_stage(batches, Stage.ENRICH, self._prepare)

    def _prepare(self) -> Split:
        reference = ReferenceData(load_cells(self.cells), load_subscribers(self.subscribers), self.operators)
        return lambda batch: enrich_batch(batch, self.profiles[country_of(batch)], reference)
