"""EnrichCdrs: adds the subscriber's operator and segment, the cell's place, the roaming class and the fraud score."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.cdr import ENRICHED_SCHEMA
from orion_beam.schemas.codes import Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.arrow.texts import index_in, take_texts
from orion_beam.transforms.reference.lookups import Lookup
from orion_beam.transforms.reference.reference_files import live_lookup, load_cells, load_subscribers
from orion_beam.transforms.rules import fraud
from orion_beam.transforms.rules.networks import Operators, are_among, countries, home_countries, prefixes_of
from orion_beam.transforms.stage.batches import SplitBatch, batch_of, columns_of
from orion_beam.transforms.stage.extra_columns import with_extra_columns
from orion_beam.transforms.stage.join_countries import Countries
from orion_beam.transforms.stage.rejects import no_rejects
from orion_beam.transforms.stage.split import Split, StageTransform

__all__ = ["EnrichCdrs", "ReferenceData", "enrich_batch", "operators_of"]


@dataclass(frozen=True)
class ReferenceData:
    """The reference data of enrichment.

    Attributes:
        cells: Country, plmn, place, lat and lon by cell_id.
        subscribers: Segment, plan and subscriber_type by imsi.
        operators: Operators of the world by PLMN (MCC and MNC).
    """

    cells: Lookup
    subscribers: Lookup
    operators: Operators

    @property
    def version(self) -> str:
        """The `reference_version` of CDRs: the versions of cells and subscribers."""
        return f"{self.cells.version}/{self.subscribers.version}"

    @cached_property
    def countries(self) -> pa.StringArray:
        """All countries that have networks or cells."""
        return pc.unique(pa.concat_arrays([countries(), self.cells.texts("country")]))

    @cached_property
    def serving_operators(self) -> npt.NDArray[np.int32]:
        """The operator of each row of the cells, as an index into `operators.names`; -1 if unknown."""
        return self.cells.by_row("plmn", self.operators.of)

    @cached_property
    def serving_countries(self) -> npt.NDArray[np.int32]:
        """The country of each row of the cells, as an index into `countries`."""
        return self.cells.by_row("country", lambda names: index_in(names, self.countries))


def operators_of(profiles: Mapping[str, CountryProfile]) -> dict[str, str]:
    """Return the name of the operator for each PLMN of the profiles."""
    operators = [operator for profile in profiles.values() for operator in profile.operators]
    return {plmn: operator.name for operator in operators for plmn in operator.plmns}


def enrich_batch(batch: pa.RecordBatch, profiles: Mapping[str, CountryProfile], reference: ReferenceData) -> SplitBatch:
    """Add place, segment, operator, roaming and fraud score to every row.

    Args:
        batch: Rows of `cdr.NORMALIZED_SCHEMA`.
        profiles: Profiles of the batch's countries, by code.
        reference: Cells, subscribers and operators.

    Returns:
        All rows, accepted and in order, as `cdr.ENRICHED_SCHEMA`.
    """
    countries, columns = Countries.of(batch, profiles), columns_of(batch)
    imsis = prefixes_of(columns["imsi"])
    cells, subscribers = reference.cells, reference.subscribers
    cell, subscriber = cells.rows_of(columns["cell_id"]), subscribers.rows_of(columns["imsi"])
    networks = _Networks(
        home_operator=reference.operators.of_imsis(imsis),
        home_country=home_countries(imsis),
        serving_operator=reference.serving_operators[cell],
        serving_country=reference.serving_countries[cell],
    )
    own_country = countries.each(index_in(pa.array([each.code for each in countries.profiles]), reference.countries))
    roaming = _roaming(imsis, networks, own_country, countries)
    is_inbound, is_at_other_end = roaming == _INBOUND, (roaming == _OUTBOUND) | (roaming == _NATIONAL)
    partner = np.where(is_at_other_end, networks.serving_operator, -1)
    partner_country = np.where(is_at_other_end, networks.serving_country, -1)
    columns |= {
        "geo_place": cells.values("place", cell),
        "geo_lat": cells.values("lat", cell),
        "geo_lon": cells.values("lon", cell),
        "segment": subscribers.values("segment", subscriber),
        "plan": subscribers.values("plan", subscriber),
        "subscriber_type": _first_known(columns["subscriber_type"], subscribers.values("subscriber_type", subscriber)),
        "home_operator": take_texts(reference.operators.names, networks.home_operator),
        "roaming": take_texts(_ROAMING, roaming),
        "is_roaming": pa.array(is_inbound | is_at_other_end),
        "roaming_partner": take_texts(reference.operators.names, np.where(is_inbound, networks.home_operator, partner)),
        "roaming_country": take_texts(
            reference.countries, np.where(is_inbound, networks.home_country, partner_country)
        ),
    }
    bits = fraud.conditions(columns, is_inbound | is_at_other_end, countries)
    columns |= {
        "fraud_score": fraud.scores(bits),
        "fraud_reasons": fraud.reasons(bits),
        "model_version": pa.repeat(fraud.MODEL_VERSION, batch.num_rows),
        "reference_version": pa.repeat(reference.version, batch.num_rows),
    }
    return SplitBatch(batch_of(columns, with_extra_columns(ENRICHED_SCHEMA, batch)), no_rejects())


class _Networks(NamedTuple):
    """The home and the serving network of each row, as indices of operators and countries; -1 if unknown."""

    home_operator: npt.NDArray[np.integer]
    home_country: npt.NDArray[np.integer]
    serving_operator: npt.NDArray[np.integer]
    serving_country: npt.NDArray[np.integer]


_ROAMING = pa.array(["home", "national", "outbound", "inbound", "unknown"])
_HOME, _NATIONAL, _OUTBOUND, _INBOUND, _UNKNOWN = range(len(_ROAMING))


def _roaming(
    imsis: npt.NDArray[np.int32], networks: _Networks, own_country: npt.NDArray[np.int32], countries: Countries
) -> npt.NDArray[np.int8]:
    """Return the roaming class: compare the IMSI's PLMN with the country, and with the cell if the cell is known.

    A PLMN of the country that belongs to no operator of the profile (for example an MVNO's) is `unknown`, never `home`.
    """
    is_ours = countries.array(imsis, lambda rows, profile: are_among(profile.mccs)[rows])
    is_operators = countries.array(imsis, lambda rows, profile: are_among(_plmns_of(profile))[rows])
    serving_operator, home_operator = networks.serving_operator, networks.home_operator
    is_elsewhere = (serving_operator >= 0) & (home_operator >= 0) & (serving_operator != home_operator)
    conditions = {
        _INBOUND: ~is_ours & (networks.home_country >= 0),
        _UNKNOWN: ~is_ours | ~is_operators,
        _OUTBOUND: (networks.serving_country >= 0) & (networks.serving_country != own_country),
        _NATIONAL: is_elsewhere,
    }
    return np.select(list(conditions.values()), [np.int8(kind) for kind in conditions], np.int8(_HOME))


@cache
def _plmns_of(profile: CountryProfile) -> tuple[str, ...]:
    return tuple(plmn for operator in profile.operators for plmn in operator.plmns)


def _first_known(texts: pa.StringArray, others: pa.StringArray) -> pa.StringArray:
    return others if texts.null_count == len(texts) else pc.coalesce(texts, others)


@dataclass(eq=False)
class EnrichCdrs(StageTransform):
    """Adds operator, place, segment, plan, roaming class and fraud score.

    In: `pa.RecordBatch` of `cdr.NORMALIZED_SCHEMA`. Out: StageOutput of accepted batches (`cdr.ENRICHED_SCHEMA`) and
    dead letters (only `internal_error`, a bug). Each row goes to exactly one of the two, and rows keep their order. A
    worker process loads the reference data once when it starts, and again when a file changes.

    Attributes:
        profiles: Country profiles by code.
        operators: The job's own names of operators by PLMN, see `operators_of`; they override the world's list.
        cells: Path of the cells (CSV or Parquet), see `reference_files.CELL_COLUMNS`.
        subscribers: Path of the subscribers (CSV or Parquet), see `reference_files.SUBSCRIBER_COLUMNS`.
        reference_refresh_s: Seconds between checks for changes of these files; None means no checks.
    """

    stage = Stage.ENRICH

    profiles: Mapping[str, CountryProfile]
    operators: Mapping[str, str]
    cells: str
    subscribers: str
    reference_refresh_s: float | None = None

    def prepare(self) -> Split:
        """Return the function over a batch."""
        cells = live_lookup(self.cells, load_cells, self.reference_refresh_s)
        subscribers = live_lookup(self.subscribers, load_subscribers, self.reference_refresh_s)

        current = lru_cache(maxsize=1)(partial(ReferenceData, operators=Operators(self.operators)))

        def enrich(batch: pa.RecordBatch) -> SplitBatch:
            reference = current(cells.current, subscribers.current)
            return enrich_batch(batch, self.profiles, reference)

        return enrich
