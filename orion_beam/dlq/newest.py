"""The newest of many letters, as a list of them shows them: everything but their content."""

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
    """Takes letters in any order, and keeps the newest.

    Attributes:
        total: letters, and foreign messages beside them, that it was given.
    """

    def __init__(self, limit: int) -> None:
        """Begin with none, to keep so many."""
        self.total = 0
        self._limit = limit
        self._kept: list[tuple[datetime, int, int, dict[str, Any]]] = []

    def add(self, read: ReadLetters, is_redriven: Mask) -> None:
        """Take in what was read, and which of the letters are redriven."""
        self.total += read.letters.num_rows + read.foreign.num_rows
        letters = read.letters.select(_SHOWN).append_column("redriven", pa.array(is_redriven))
        for letter in self._newest_of(letters, "failed_at").to_pylist():
            partition, offset = letter.pop("letter_partition"), letter.pop("letter_offset")
            failed_at = letter["failed_at"]
            listed = (
                {"place": f"{partition}@{offset}", "foreign": False} | letter | {"failed_at": failed_at.isoformat()}
            )
            self._kept.append((failed_at, partition, offset, listed))
        for message in self._newest_of(read.foreign, "source_timestamp").to_pylist():
            partition, offset = message["source_partition"], message["source_offset"]
            written = message["source_timestamp"] or _NEVER
            self._kept.append((written, partition, offset, _listed(partition, offset, foreign=True)))
        self._kept.sort(key=itemgetter(0, 1, 2), reverse=True)
        del self._kept[self._limit :]

    def _newest_of(self, rows: pa.RecordBatch, time: str) -> pa.RecordBatch:
        if rows.num_rows <= self._limit:
            return rows
        # Stable, and what comes last in a partition is newer: of equal times the last ones are kept.
        order = pc.sort_indices(rows.column(time), null_placement="at_start").to_numpy()
        return rows.take(pa.array(np.sort(order[-self._limit :])))

    @property
    def listed(self) -> list[dict[str, Any]]:
        """Those kept, the newest first, as JSON has them."""
        return [listed for _, _, _, listed in self._kept]

    @property
    def left_out(self) -> int:
        """How many were not kept."""
        return self.total - len(self._kept)


def _listed(partition: int, offset: int, *, foreign: bool = False, **shown: Any) -> dict[str, Any]:
    return {"place": f"{partition}@{offset}", "foreign": foreign} | shown
