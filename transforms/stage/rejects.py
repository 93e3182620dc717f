"""Construction of dead letters from rejected rows: the original message and the rules that it breaks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa

from orion_beam.schemas import VERSION
from orion_beam.schemas.codes import Code, CustomCode, meaning_of
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA, LETTER_HEADERS
from orion_beam.transforms.arrow.texts import lengths_of
from orion_beam.transforms.arrow.times import plausible_or_null
from orion_beam.transforms.stage.batches import batch_of, empty_batch

PAYLOAD_FIELD = "value"
"""Name in `fields` for a rule that the message breaks as a whole."""

ATTEMPT_HEADER = LETTER_HEADERS["attempt"]
MAX_LETTER_MESSAGE_BYTES = 1024


@dataclass(frozen=True)
class Violation:
    """A broken rule: its code, and the unified name of the field that breaks it."""

    code: Code | CustomCode
    field: str

    def __str__(self) -> str:
        """Return a text for people: field, code and meaning, never a value."""
        return f"{self.field}: {self.code.value}: {self.code.meaning}"


@lru_cache(maxsize=4096)
def _explain(broken: tuple[Violation, ...]) -> tuple[str, list[str], list[str], str]:
    """Return code, codes, fields and message. The cache pays off because few combinations of broken rules occur."""
    codes = [violation.code.value for violation in broken]
    message = "; ".join(map(str, broken)).encode()[:MAX_LETTER_MESSAGE_BYTES].decode(errors="ignore")
    return codes[0], codes, [violation.field for violation in broken], message


def meanings_in(letter: Mapping[str, Any]) -> list[str]:
    """Return the meaning of each code of a dead letter. That of a user's own stage stands in the letter's message."""
    heads = [f"{field}: {code}: " for field, code in zip(letter["fields"], letter["codes"], strict=True)]
    ends = [f"; {head}" for head in heads[1:]]
    told = [
        letter["message"].partition(head)[2].partition(end)[0] if end else letter["message"].partition(head)[2]
        for head, end in zip_longest(heads, ends)
    ]
    return [
        text if "." in code and text else meaning_of(code) for code, text in zip(letter["codes"], told, strict=True)
    ]


def _attempt(headers: Sequence[dict[str, object]] | None) -> int:
    """Return the number of attempts for a message: that of its header after a redrive, else 1."""
    for header in headers or ():
        value = header["value"]
        # Anybody can write headers, so a value that is not a number of at most nine digits is ignored.
        if header["key"] == ATTEMPT_HEADER and isinstance(value, bytes) and value.isdigit() and len(value) <= 9:
            return max(1, int(value))
    return 1


def no_rejects() -> pa.RecordBatch:
    """Return an empty batch of dead letters."""
    return _NO_REJECTS


def dead_letters(rows: pa.RecordBatch, stage: str, violations: Sequence[tuple[Violation, ...]]) -> pa.RecordBatch:
    """Make the dead letters of rejected rows.

    Args:
        rows: Rejected rows. They have at least the columns of `raw.RawCdr`.
        stage: Name of the stage that rejects them.
        violations: For each row the rules that it breaks, at least one.

    Returns:
        One dead letter for each row, as DEAD_LETTER_SCHEMA.
    """
    count = rows.num_rows
    if count == 0:
        return _NO_REJECTS
    code, codes, fields, message = zip(*map(_explain, violations), strict=True)
    attempts = [1] * count
    for row in np.flatnonzero(lengths_of(rows.column("raw_headers"))):
        attempts[row] = _attempt(rows.column("raw_headers")[row].as_py())
    columns = {name: rows.column(original) for name, original in _ORIGINAL.items()} | {
        "source_timestamp": plausible_or_null(rows.column("source_timestamp")),
        "stage": pa.repeat(str(stage), count),
        "code": pa.array(code, pa.string()),
        "codes": pa.array(codes, _TEXTS),
        "fields": pa.array(fields, _TEXTS),
        "message": pa.array(message, pa.string()),
        "attempt": pa.array(attempts, pa.int32()),
        "version": pa.repeat(VERSION, count),
        "failed_at": pa.repeat(pa.scalar(datetime.now(UTC), DEAD_LETTER_SCHEMA.field("failed_at").type), count),
        "run_id": pa.nulls(count, pa.string()),
        "payload_bytes": pa.nulls(count, pa.int64()),
        "payload_sha256": pa.nulls(count, pa.string()),
    }
    return batch_of(columns, DEAD_LETTER_SCHEMA)


_NO_REJECTS = empty_batch(DEAD_LETTER_SCHEMA)
_TEXTS = pa.list_(pa.string())
_SOURCE = ("country", "source_topic", "source_partition", "source_offset", "source_timestamp")
_ORIGINAL = {"key": "raw_key", "value": "raw_value", "headers": "raw_headers"} | {name: name for name in _SOURCE}
