"""Rejected rows become dead letters: the original message, and which rules it breaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

import polars as pl
import pyarrow as pa

from schemas.codes import Code, Stage
from schemas.dead_letter import DEAD_LETTER_SCHEMA
from schemas.version import VERSION
from transforms.batches import empty_batch, frame_of

PAYLOAD_FIELD = "value"
"""What `fields` names when the message as a whole breaks a rule."""

ATTEMPT_HEADER = "orion.attempt"
MAX_MESSAGE_BYTES = 1024


@dataclass(frozen=True)
class Violation:
    """One broken rule: its code, and the unified name of the field that breaks it."""

    code: Code
    field: str

    def __str__(self) -> str:
        """Return what people read: field, code and meaning, never a value."""
        return f"{self.field}: {self.code.value}: {self.code.meaning}"


class _Explanations:
    """What is said of each combination of broken rules: few ever occur, so they are texts in a table, not made anew."""

    def __init__(self) -> None:
        self._index: dict[tuple[Violation, ...], int] = {}
        self._rows: list[dict[str, object]] = []
        self._table = pl.DataFrame()
        self._lock = Lock()

    def of(self, violations: Sequence[tuple[Violation, ...]]) -> pl.DataFrame:
        """Return code, codes, fields and message of each row."""
        # Bundles run on several threads; the table only ever grows, so rows found before it grew stay right.
        with self._lock:
            indices = [self._index_of(broken) for broken in violations]
            if self._table.height < len(self._rows):
                texts = pl.List(pl.String)
                schema = pl.Schema([("code", pl.String), ("codes", texts), ("fields", texts), ("message", pl.String)])
                self._table = pl.DataFrame(self._rows, schema=schema)
            return self._table[indices]

    def _index_of(self, broken: tuple[Violation, ...]) -> int:
        index = self._index.get(broken)
        if index is None:
            index = self._index[broken] = len(self._rows)
            message = "; ".join(map(str, broken)).encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")
            codes = [violation.code.value for violation in broken]
            fields = [violation.field for violation in broken]
            self._rows.append({"code": codes[0], "codes": codes, "fields": fields, "message": message})
        return index


_explanations = _Explanations()


def _attempt(headers: Sequence[dict[str, object]] | None) -> int:
    """Return how often the message was tried: its own header says so once it was redriven."""
    for header in headers or ():
        value = header["value"]
        # Anybody can write headers: what is no number of a sensible length counts as none.
        if header["key"] == ATTEMPT_HEADER and isinstance(value, bytes) and value.isdigit() and len(value) <= 9:
            return max(1, int(value))
    return 1


def no_rejects() -> pa.RecordBatch:
    """Return an empty batch of dead letters."""
    return _NO_REJECTS


def dead_letters(
    rows: pa.RecordBatch | pl.DataFrame, stage: Stage, violations: Sequence[tuple[Violation, ...]]
) -> pa.RecordBatch:
    """Make the dead letters of `rows`.

    Args:
        rows: rejected rows; they still have the columns of `schemas.raw.RawCdr`.
        stage: the stage that rejects them.
        violations: for each row the rules that it breaks, at least one.

    Returns:
        One row each, as DEAD_LETTER_SCHEMA.
    """
    frame = rows if isinstance(rows, pl.DataFrame) else frame_of(rows)
    if frame.height == 0:
        return _NO_REJECTS
    attempts = [_attempt(headers) for headers in frame["raw_headers"].to_list()]
    letters = (
        frame.hstack(_explanations.of(violations))
        .select(
            *_ORIGINAL,
            *_LITERALS[stage],
            attempt=pl.Series(attempts, dtype=pl.Int32),
            failed_at=pl.lit(datetime.now(UTC), pl.Datetime("ms", "UTC")),
        )
        .select(DEAD_LETTER_SCHEMA.names)
    )
    # Not as views: they would keep the whole batch in memory, and be sent along with it, for a few rows.
    return letters.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()[0]


_NO_REJECTS = empty_batch(DEAD_LETTER_SCHEMA)
_LITERALS = {stage: (pl.lit(VERSION).alias("version"), pl.lit(stage.value).alias("stage")) for stage in Stage}
_ORIGINAL = [
    pl.col("raw_key").alias("key"),
    pl.col("raw_value").alias("value"),
    pl.col("raw_headers").alias("headers"),
    *map(pl.col, ("country", "source_topic", "source_partition", "source_offset", "source_timestamp")),
    *map(pl.col, ("code", "codes", "fields", "message")),
]
