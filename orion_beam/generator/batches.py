"""Batches of generated CDRs: rows are split by format, written one format at a time, and put back in order."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from orion_beam.generator.draws import Bits, Index, below, chance, spread
from orion_beam.generator.faults import alter_fields, alter_payloads, choices, expected_codes
from orion_beam.generator.formats import Rendering
from orion_beam.generator.formats.declared import renderings_of
from orion_beam.generator.population import POPULATION_SIZE
from orion_beam.generator.times import in_order, last_gap
from orion_beam.generator.traffic import Traffic, arrivals_ms
from orion_beam.schemas.country import CountryProfile

GENERATED_ROWS = 32_768
SHARES_OF_ALL = {"flat_json": 0.20, "pipe_text": 0.02}
"""Shares of the formats that every country sends; the country's own formats share the rest equally."""
ODDITY_SHARE = 0.005
"""Share of good records that have a trailing CR, a byte order mark, a newline in a cell's name or the like."""
BULK_WINDOW_S = 600.0
"""CDRs generated without a rate arrive evenly within this many seconds before the start."""


@dataclass(frozen=True)
class GeneratedBatch:
    """CDRs of one country in order of arrival; all columns have the same length.

    Attributes:
        country: ISO 3166-1 alpha-2 code.
        key: Kafka keys (Binary): the subscriber's IMSI, even when the record itself holds none.
        value: Raw CDRs (Binary); null: a message without a value.
        timestamp: Kafka timestamps (Datetime, ms, UTC).
        expected_code: The first code that the record must be rejected with (String); null: it must be accepted.
    """

    country: str
    key: pl.Series
    value: pl.Series
    timestamp: pl.Series
    expected_code: pl.Series

    def __len__(self) -> int:
        """Return the number of CDRs."""
        return len(self.value)

    @property
    def faulty_count(self) -> int:
        """Number of CDRs that must be rejected."""
        return len(self) - self.expected_code.null_count()


_ABSENT = pl.lit(None, pl.String)


def _format_table(profile: CountryProfile) -> tuple[tuple[str, ...], Index]:
    """Return the country's formats and a table of 1,024 positions in them, each as often as its share says."""
    own = [name for name in profile.formats if name not in SHARES_OF_ALL]
    share = (1 - sum(SHARES_OF_ALL.values())) / max(1, len(own))
    return (*own, *SHARES_OF_ALL), spread([*[share] * len(own), *SHARES_OF_ALL.values()], 1024)


class CdrGenerator:
    """Generates the CDRs of one country: a row's CDR is the same whichever rows are asked for, in any order."""

    def __init__(
        self,
        profile: CountryProfile,
        *,
        seed: int,
        fault_rate: float,
        start: datetime,
        rows_per_second: float,
        lead_s: float = 0.0,
        fits_lines: bool = False,
        population_size: int = POPULATION_SIZE,
    ) -> None:
        """Keep what the CDRs depend on; `generate_batches` explains the arguments further.

        Args:
            profile: The country.
            seed: Seed; another one gives unrelated CDRs of the same subscribers.
            fault_rate: Share of faulty CDRs, 0 to 1.
            start: Aware time from which arrivals are counted.
            rows_per_second: Rate at which the CDRs arrive.
            lead_s: Seconds before `start` at which the first CDR arrives.
            fits_lines: Whether to use only faults and oddities that a file with one record per line can hold.
            population_size: Number of home subscribers.

        Raises:
            ValueError: `fault_rate` or `rows_per_second` is out of range, or `start` has no offset.
        """
        if not 0 <= fault_rate <= 1:
            raise ValueError(f"fault_rate must be from 0 to 1, not {fault_rate}")
        if not rows_per_second > 0:
            raise ValueError(f"rows_per_second must be more than 0, not {rows_per_second}")
        if start.tzinfo is None:
            raise ValueError("start must have an offset from UTC")
        self._profile = profile
        self._traffic = Traffic(profile, seed, population_size)
        self._formats, self._format_table = _format_table(profile)
        self._fault_rate = fault_rate
        self._start, self._rows_per_second, self._lead_s = start, rows_per_second, lead_s
        self._fits_lines = fits_lines
        gap = last_gap(profile.zone, start.year)
        self._skipped_time = None if gap is None else gap.strftime("%Y-%m-%d %H:%M:%S")

    def batch(self, first: int, count: int) -> GeneratedBatch:
        """Return the CDRs of rows `first` to `first + count - 1`."""
        rows = np.arange(first, first + count, dtype=np.uint64)
        arrivals = arrivals_ms(rows, self._start, self._rows_per_second, self._lead_s)
        formats = self._format_table[below(self._traffic.draw(rows, "format"), len(self._format_table))]
        parts, places = [], []
        for index, raw_format in enumerate(self._formats):
            chosen = np.flatnonzero(formats == index)
            if not len(chosen):
                continue
            for part, of_chosen in self._parts(rows[chosen], arrivals[chosen], raw_format):
                parts.append(part)
                places.append(chosen[of_chosen])
        columns = {name: in_order([part[name] for part in parts], places) for name in ("key", "value", "expected_code")}
        timestamp = pl.Series(arrivals).cast(pl.Datetime("ms", "UTC"))
        return GeneratedBatch(self._profile.code, timestamp=timestamp, **columns)

    def _parts(self, rows: Bits, arrivals: Index, raw_format: str) -> Iterator[tuple[pl.DataFrame, Index]]:
        """Yield key, value and expected code of the unaltered, then the altered rows, with their places in `rows`."""
        rendering = renderings_of(self._profile)[raw_format]
        texts = self._traffic.events(rows, arrivals, rendering)
        frame = pl.DataFrame(texts)
        frame = frame.with_columns(**{name: _ABSENT for name in rendering.fields if name not in frame.columns})
        alterations = self._alterations(rows, rendering)
        plain, altered = np.flatnonzero(alterations < 0), np.flatnonzero(alterations >= 0)
        untouched = frame if not len(altered) else frame[plain]
        yield (
            untouched.select(
                key=pl.col("key").cast(pl.Binary),
                value=rendering.payload.cast(pl.Binary),
                expected_code=pl.lit(None, pl.String),
            ),
            plain,
        )
        if not len(altered):
            return
        before = frame[altered].with_columns(
            alteration=pl.Series(alterations[altered]),
            arrival_ms=pl.Series(arrivals[altered]),
            skipped_time=pl.lit(self._skipped_time, pl.String),
        )
        after = alter_fields(before, rendering)
        value = alter_payloads(after.with_columns(payload=rendering.payload), rendering)
        yield (
            pl.DataFrame(
                {
                    "key": before["key"].cast(pl.Binary),
                    "value": value,
                    "expected_code": expected_codes(alterations[altered]),
                }
            ),
            altered,
        )

    def _alterations(self, rows: Bits, rendering: Rendering) -> Index:
        """Return each row's alteration as a position in ALTERATIONS; -1: none."""
        has_gap = self._skipped_time is not None
        is_faulty = chance(self._traffic.draw(rows, "faulty"), self._fault_rate)
        is_odd = chance(self._traffic.draw(rows, "odd"), ODDITY_SHARE) & ~is_faulty
        which = self._traffic.draw(rows, "alteration")
        alterations = np.full(len(rows), -1, dtype=np.int64)
        for mask, faulty in ((is_faulty, True), (is_odd, False)):
            candidates = choices(rendering, faulty=faulty, fits_lines=self._fits_lines, has_gap=has_gap)
            alterations[mask] = candidates[below(which[mask], len(candidates))]
        return alterations


def generate_batches(
    profile: CountryProfile,
    count: int | None,
    seed: int = 0,
    fault_rate: float = 0.0,
    *,
    batch_rows: int = GENERATED_ROWS,
    start: datetime | None = None,
    rows_per_second: float | None = None,
    fits_lines: bool = False,
    population_size: int = POPULATION_SIZE,
) -> Iterator[GeneratedBatch]:
    """Yield a country's CDRs in batches.

    The same arguments give the same bytes, keys, timestamps and faults; `batch_rows` makes no difference to them.

    Args:
        profile: The country.
        count: Number of CDRs. None: endless, which needs `rows_per_second`.
        seed: Seed; another one gives unrelated CDRs of the same subscribers.
        fault_rate: Share of CDRs that must be rejected, 0 to 1.
        batch_rows: Rows of each batch but the last.
        start: Aware time; the present by default. Most event times lie up to a day before a CDR's arrival.
        rows_per_second: Rate at which CDRs arrive from `start` on. None: evenly within the ten minutes before `start`.
        fits_lines: Whether to make only payloads that a file with one record per line can hold: not null, not empty,
            no newline.
        population_size: Number of home subscribers.

    Raises:
        ValueError: an argument is out of range.
    """
    if batch_rows < 1:
        raise ValueError(f"batch_rows must be at least 1, not {batch_rows}")
    if count is None and rows_per_second is None:
        raise ValueError("without a count there must be rows_per_second")
    if count is not None and count < 0:
        raise ValueError(f"count must be at least 0, not {count}")
    generator = CdrGenerator(
        profile,
        seed=seed,
        fault_rate=fault_rate,
        start=start or datetime.now(UTC),
        rows_per_second=max(1, count or 0) / BULK_WINDOW_S if rows_per_second is None else rows_per_second,
        lead_s=BULK_WINDOW_S if rows_per_second is None else 0.0,
        fits_lines=fits_lines,
        population_size=population_size,
    )
    return _batches(generator, count, batch_rows)


def _batches(generator: CdrGenerator, count: int | None, batch_rows: int) -> Iterator[GeneratedBatch]:
    first = 0
    while count is None or first < count:
        rows = batch_rows if count is None else min(batch_rows, count - first)
        yield generator.batch(first, rows)
        first += rows
