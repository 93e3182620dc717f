"""EnrichCdrs: who the subscriber's operator is, where the cell stands, what roaming it is, how suspicious it looks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.cdr import ENRICHED_SCHEMA
from schemas.codes import Stage
from schemas.country import CountryProfile
from transforms import fraud
from transforms.batches import SplitBatch, batch_of, columns_of, country_of
from transforms.lookups import Lookup
from transforms.plmns import Operators, home_countries
from transforms.reference import live_lookup, load_cells, load_subscribers
from transforms.rejects import no_rejects
from transforms.stage import Split, StageOutput, split_stage
from transforms.texts import Mask, chosen, is_null, mask_of, one_of, where


@dataclass(frozen=True)
class ReferenceData:
    """What enrichment looks up.

    Attributes:
        cells: by cell_id: country, plmn, place, lat, lon.
        subscribers: by imsi: segment, plan, subscriber_type.
        operators: by PLMN (MCC and MNC), of the world.
    """

    cells: Lookup
    subscribers: Lookup
    operators: Operators

    @property
    def version(self) -> str:
        """What is written into CDRs: the versions of cells and subscribers."""
        return f"{self.cells.version}/{self.subscribers.version}"


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
    columns = columns_of(batch)
    cells = reference.cells.find(columns["cell_id"])
    subscribers = reference.subscribers.find(columns["imsi"])
    plmns = pc.binary_join_element_wise(columns["mcc"], columns["mnc"], "")
    networks = _Networks(
        home_operator=reference.operators.of(plmns),
        home_country=home_countries(columns["imsi"]),
        serving_operator=reference.operators.of(cells["plmn"]),
        serving_country=cells["country"],
    )
    roaming = _roaming(columns["mcc"], plmns, networks, profile)
    is_inbound, is_at_other_end = roaming == _INBOUND, (roaming == _OUTBOUND) | (roaming == _NATIONAL)
    columns |= {
        "geo_place": cells["place"],
        "geo_lat": cells["lat"],
        "geo_lon": cells["lon"],
        "segment": subscribers["segment"],
        "plan": subscribers["plan"],
        "subscriber_type": pc.coalesce(columns["subscriber_type"], subscribers["subscriber_type"]),
        "home_operator": networks.home_operator,
        "roaming": chosen(_ROAMING, roaming),
        "is_roaming": pa.array(is_inbound | is_at_other_end),
        "roaming_partner": where(
            is_inbound, networks.home_operator, where(is_at_other_end, networks.serving_operator, None)
        ),
        "roaming_country": where(
            is_inbound, networks.home_country, where(is_at_other_end, networks.serving_country, None)
        ),
    }
    bits = fraud.conditions(columns, is_inbound | is_at_other_end, profile)
    columns |= {
        "fraud_score": fraud.scores(bits),
        "fraud_reasons": fraud.reasons(bits),
        "model_version": pa.repeat(fraud.MODEL_VERSION, batch.num_rows),
        "reference_version": pa.repeat(reference.version, batch.num_rows),
    }
    return SplitBatch(batch_of(columns, ENRICHED_SCHEMA), no_rejects())


class _Networks(NamedTuple):
    """Who issued the IMSI, and whose cell served it; null where it is not known."""

    home_operator: pa.StringArray
    home_country: pa.StringArray
    serving_operator: pa.StringArray
    serving_country: pa.StringArray


_ROAMING = pa.array(["home", "national", "outbound", "inbound", "unknown"])
_HOME, _NATIONAL, _OUTBOUND, _INBOUND, _UNKNOWN = range(len(_ROAMING))


def _roaming(
    mccs: pa.StringArray, plmns: pa.StringArray, networks: _Networks, profile: CountryProfile
) -> npt.NDArray[np.int8]:
    """Return the roaming class: the IMSI's PLMN against the country, and against the cell where it is known.

    A PLMN of the country that none of the profile's operators has (an MVNO's, say) is `unknown`, never `home`.
    """
    is_ours = one_of(mccs, pa.array(profile.mccs))
    is_operators = one_of(plmns, pa.array([plmn for operator in profile.operators for plmn in operator.plmns]))
    is_abroad = _are_known_and_differ(networks.serving_country, pa.scalar(profile.code))
    is_elsewhere = _are_known_and_differ(networks.serving_operator, networks.home_operator)
    conditions = {
        _INBOUND: ~is_ours & ~is_null(networks.home_country),
        _UNKNOWN: ~is_ours | ~is_operators,
        _OUTBOUND: is_abroad,
        _NATIONAL: is_elsewhere,
    }
    return np.select(list(conditions.values()), [np.int8(kind) for kind in conditions], np.int8(_HOME))


def _are_known_and_differ(texts: pa.StringArray, others: pa.StringArray | pa.Scalar) -> Mask:
    return mask_of(pc.not_equal(texts, others))


@dataclass(eq=False)
class EnrichCdrs(beam.PTransform):  # type: ignore[misc]
    """Adds operator, place, segment, plan, roaming class and fraud score.

    In: `pa.RecordBatch` of `schemas.cdr.NORMALIZED_SCHEMA`, one country a batch. Out: StageOutput of accepted batches
    (`schemas.cdr.ENRICHED_SCHEMA`) and dead letters (only `internal_error`, a bug). Every row goes to exactly one of
    the two; order holds. Reference data is loaded when a worker starts, once a process, and again when it changes.

    Attributes:
        profiles: country profiles by code.
        operators: what the job calls operators, by PLMN, see `operators_of`; others are called as the world calls them.
        cells: path of the cells (CSV or Parquet), see `transforms.reference.CELL_COLUMNS`.
        subscribers: path of the subscribers (CSV or Parquet), see `transforms.reference.SUBSCRIBER_COLUMNS`.
        reference_refresh_s: how often to look whether these files have changed; None never looks.
    """

    profiles: Mapping[str, CountryProfile]
    operators: Mapping[str, str]
    cells: str
    subscribers: str
    reference_refresh_s: float | None = None

    def __post_init__(self) -> None:
        """Name the transform."""
        super().__init__()

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no named tuples of outputs
    def expand(self, batches: beam.PCollection) -> StageOutput:
        """Split each batch into enriched rows and dead letters."""
        return split_stage(batches, Stage.ENRICH, self._prepare)

    def _prepare(self) -> Split:
        cells = live_lookup(self.cells, load_cells, self.reference_refresh_s)
        subscribers = live_lookup(self.subscribers, load_subscribers, self.reference_refresh_s)

        operators = Operators(self.operators)

        def enrich(batch: pa.RecordBatch) -> SplitBatch:
            reference = ReferenceData(cells.current, subscribers.current, operators)
            return enrich_batch(batch, self.profiles[country_of(batch)], reference)

        return enrich
