"""What the tests of the decoders share."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from orion_beam.countries import all_profiles
from orion_beam.schemas.cdr import DecodedFields
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.stage.batches import SplitBatch


def split(country: str, payloads: Sequence[bytes | None], timestamps: datetime | None = None) -> SplitBatch:
    return decode_batch(raw_batch(country, payloads, timestamps=timestamps), all_profiles()[country])


def decode(country: str, payloads: Sequence[bytes | None]) -> list[dict[str, Any]]:
    """Return the decoded fields that are not null, of payloads that are all accepted."""
    outcome = split(country, payloads)
    assert rows(outcome.rejected) == []
    accepted = rows(outcome.accepted)
    return [{name: row[name] for name in DecodedFields.model_fields if row[name] is not None} for row in accepted]


def decode_one(country: str, payload: bytes) -> dict[str, Any]:
    (row,) = decode(country, [payload])
    return row


def rejected_codes(country: str, payload: bytes | None) -> list[str]:
    """Return the codes of a payload that is rejected."""
    outcome = split(country, [payload])
    assert outcome.accepted.num_rows == 0
    (letter,) = rows(outcome.rejected)
    assert letter["value"] == payload
    assert letter["stage"] == "decode"
    return list(letter["codes"])
