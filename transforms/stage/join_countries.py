"""JoinCountries, and helpers for batches with rows of several countries.

A batch costs the chain some milliseconds, however few rows it has. A quiet stream has small batches, so batches of
several countries are joined. After DecodeCdrs few columns depend on the country. Those are processed country by
country, all others for all rows at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.stage.batches import (
    MAX_ROWS,
    SplitBatch,
    at_bundle_end,
    concat_batches,
    country_of,
    join_small_batches,
)

CountrySplit = Callable[[pa.RecordBatch, CountryProfile], SplitBatch]

JOIN_BELOW_ROWS = MAX_ROWS // 2
"""Number of rows from which joining does not pay: the copy costs as much as a separate batch."""


def country_runs(batch: pa.RecordBatch) -> list[tuple[str, slice]]:
    """Return the country and slice of each run of consecutive rows of one country, in order."""
    runs = pc.run_end_encode(batch.column("country"))
    ends = runs.run_ends.to_pylist()
    return list(zip(runs.values.to_pylist(), map(slice, [0, *ends], ends), strict=True))


def parts_of(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield the country and rows of each run of consecutive rows of one country, in order."""
    for country, rows in country_runs(batch):
        yield country, batch[rows]


def by_country(
    function: CountrySplit, profiles: Mapping[str, CountryProfile]
) -> Callable[[pa.RecordBatch], SplitBatch]:
    """Return a function over batches that applies `function` to the rows of each country, with its profile."""

    def split(batch: pa.RecordBatch) -> SplitBatch:
        outcomes = [function(rows, profiles[country]) for country, rows in parts_of(batch)]
        return SplitBatch(
            concat_batches([outcome.accepted for outcome in outcomes]),
            concat_batches([outcome.rejected for outcome in outcomes]),
            tuple(member for outcome in outcomes for member in outcome.unread),
        )

    return split


class Countries(NamedTuple):
    """The rows of a batch by country, as runs of consecutive rows of one country.

    Attributes:
        profiles: Country profile of each run.
        runs: Slice of each run's rows.
    """

    profiles: tuple[CountryProfile, ...]
    runs: tuple[slice, ...]

    @classmethod
    def of(cls, batch: pa.RecordBatch, profiles: Mapping[str, CountryProfile]) -> Self:
        """Find the countries of a batch.

        Args:
            batch: Batch with a column `country`.
            profiles: Profiles of these countries by code.
        """
        if not batch.num_rows:
            # One empty run lets functions return empty results of the right type.
            return cls((next(iter(profiles.values())),), (slice(0, 0),))
        countries, runs = zip(*country_runs(batch), strict=True)
        return cls(tuple(profiles[country] for country in countries), runs)

    def column(self, rows: pa.Array, function: Callable[[pa.Array, CountryProfile], pa.Array]) -> pa.Array:
        """Apply a function to a column, country by country, and return the joined column."""
        pieces = self.pieces(rows, function)
        return pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)

    def array(self, rows: Any, function: Callable[[Any, CountryProfile], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Apply a function to a column or an array, country by country, and return the joined array."""
        pieces = self.pieces(rows, function)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def each(self, values: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return for each row the value of its run. There is one value for each of `profiles`."""
        return np.repeat(values, [run.stop - run.start for run in self.runs])

    def pieces(self, rows: Any, function: Callable[[Any, CountryProfile], Any]) -> list[Any]:
        """Apply a function to a column or an array, country by country, and return the results by run."""
        return [function(rows[run], profile) for profile, run in zip(self.profiles, self.runs, strict=True)]


class _JoinFn(beam.DoFn):  # type: ignore[misc]
    def start_bundle(self) -> None:
        self._held: list[pa.RecordBatch] = []

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        self._held.append(batch)
        if sum(held.num_rows for held in self._held) >= JOIN_BELOW_ROWS:
            yield from self._take()

    def finish_bundle(self) -> Iterator[object]:
        if self._held:
            yield from map(at_bundle_end, self._take())

    def _take(self) -> list[pa.RecordBatch]:
        held, self._held = self._held, []
        return join_small_batches(sorted(held, key=country_of))


class JoinCountries(beam.PTransform):  # type: ignore[misc]
    """Joins the small batches of a bundle, of any countries.

    In: `pa.RecordBatch` of one schema with a column `country`, one country a batch. Out: the same schema, one or more
    countries a batch. Batches are held until they have JOIN_BELOW_ROWS rows together or the bundle ends. The rows of a
    country keep their order and are consecutive in a joined batch.
    """

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Join the batches of each bundle."""
        return batches | "Join" >> beam.ParDo(_JoinFn()).with_output_types(pa.RecordBatch)
