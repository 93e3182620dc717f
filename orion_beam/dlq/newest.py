"""Newest letters of many, in the form that lists show: without the records' content."""

from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.io.letter_headers import ReadLetters
from orion_beam.transforms.arrow.texts import Mask

_SHOWN = [
    "failed_at", "country", "stage", "codes", "fields", "attempt", "source_topic", "source_partition", "source_offset",
    "letter_partition", "letter_offset",
]  # fmt: skip
_NEVER = datetime.min.replace(tzinfo=UTC)


class Newest:
    """Collector that takes letters in any order and keeps the newest.

    Attributes:
        total: Number of letters and foreign messages that were added.
    """

    def __init__(self, limit: int) -> None:
        """Take the number of letters to keep."""
        self.total = 0
        self._limit = limit
        self._kept: list[tuple[datetime, int, int, dict[str, Any]]] = []

    def add(self, read: ReadLetters, is_redriven: Mask) -> None:
        """Add letters and foreign messages; `is_redriven` says which of the letters are redriven."""
        self.total += read.letters.num_rows + read.foreign.num_rows
        letters = read.letters.select(_SHOWN).append_column("redriven", pa.array(is_redriven))
        for letter in self._newest_of(letters, "failed_at").to_pylist():
            partition, offset = letter.pop("letter_partition"), letter.pop("letter_offset")
            failed_at = letter.pop("failed_at")
            shown = {"failed_at": failed_at.isoformat()} | letter
            self._kept.append((failed_at, partition, offset, _listed(partition, offset, shown, foreign=False)))
        for message in self._newest_of(read.foreign, "source_timestamp").to_pylist():
            partition, offset = message["source_partition"], message["source_offset"]
            written = message["source_timestamp"] or _NEVER
            self._kept.append((written, partition, offset, _listed(partition, offset, {}, foreign=True)))
        self._kept.sort(key=itemgetter(0, 1, 2), reverse=True)
        del self._kept[self._limit :]

    def _newest_of(self, rows: pa.RecordBatch, time: str) -> pa.RecordBatch:
        if rows.num_rows <= self._limit:
            return rows
        # The sort is stable, and later rows of a partition are newer: of rows with equal times the last ones are kept.
        order = pc.sort_indices(rows.column(time), null_placement="at_start").to_numpy()
        return rows.take(pa.array(np.sort(order[-self._limit :])))

    @property
    def listed(self) -> list[dict[str, Any]]:
        """Kept letters in JSON's types, the newest first."""
        return [listed for _, _, _, listed in self._kept]

    @property
    def left_out(self) -> int:
        """Number of letters and messages that were not kept."""
        return self.total - len(self._kept)


def _listed(partition: int, offset: int, shown: dict[str, Any], *, foreign: bool) -> dict[str, Any]:
    return {"place": f"{partition}@{offset}", "foreign": foreign} | shown
