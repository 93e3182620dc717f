"""Beam counters of a bounded run: rows by country and outcome."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.runner import PipelineResult

from orion_beam.transforms.stage.counters import NAMESPACE, count
from orion_beam.transforms.stage.join_countries import parts_of

READ = "read"
LINES = "lines"
BLANK_LINES = "blank_lines"
HEADER_LINES = "header_lines"
TRAILER_LINES = "trailer_lines"
SKIPPED = (BLANK_LINES, HEADER_LINES, TRAILER_LINES)
"""Kinds of lines in files that are no records."""
FINAL_ROW = "final"
DEAD_LETTER = "dead_letter"


class RowOutcome(NamedTuple):
    """Outcome of rows of a country.

    `kind` is FINAL_ROW or DEAD_LETTER (with a code); for the input it is READ (all rows of a replay), LINES (all lines
    of files) or one of SKIPPED. Other kinds are counts of record checks and of unread members, such as DUPLICATE.
    """

    kind: str
    country: str
    code: str = ""


class CountRows(beam.DoFn):  # type: ignore[misc]
    """Passes batches on and counts their rows; dead letters are counted by their first code."""

    def __init__(self, kind: str) -> None:
        """Keep the kind of outcome that the rows have."""
        self._kind = kind

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Count one batch."""
        for country, rows in parts_of(batch):
            if self._kind == DEAD_LETTER:
                for code, number in Counter(rows.column("code").to_pylist()).items():
                    count(self._kind, country, code, number)
            else:
                count(self._kind, country, rows=rows.num_rows)
        yield batch


def outcomes_of(result: PipelineResult) -> dict[RowOutcome, int]:
    """Return the counters of a finished run."""
    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    outcomes: Counter[RowOutcome] = Counter()
    for counter in counters:
        # Several steps may count rows of the same outcome.
        outcomes[RowOutcome(*counter.key.metric.name.split("/"))] += counter.committed
    return dict(outcomes)
