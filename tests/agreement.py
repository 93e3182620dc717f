"""Comparison of the columnar chain with the row-by-row oracle."""

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from orion_beam.schemas.cdr import ValidatedFields
from orion_beam.schemas.country import CountryProfile
from orion_beam.testing import raw_batch, rows
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.validate import validate_batch
from tests.oracle import Verdict, judge


def verdicts_of(batch: pa.RecordBatch, profile: CountryProfile) -> list[Verdict]:
    """Return the verdict of the transforms on each row, in order."""
    decoded = decode_batch(batch, profile)
    validated = validate_batch(decoded.accepted, {profile.code: profile})
    found: dict[int, Verdict] = {}
    for row in rows(validated.accepted):
        fields = {name: row[name] for name in ValidatedFields.model_fields}
        found[row["source_offset"]] = Verdict(fields, frozenset())
    for letter in rows([decoded.rejected, validated.rejected]):
        assert letter["code"] == letter["codes"][0]
        assert letter["source_offset"] not in found
        found[letter["source_offset"]] = Verdict(None, frozenset(zip(letter["codes"], letter["fields"], strict=True)))
    return [found[offset] for offset in range(batch.num_rows)]


def assert_agreement(
    payloads: Sequence[bytes | None], arrivals: Sequence[datetime | None], profile: CountryProfile
) -> None:
    found = verdicts_of(raw_batch(profile.code, payloads, timestamps=arrivals), profile)
    expected = [judge(payload, arrived, profile) for payload, arrived in zip(payloads, arrivals, strict=True)]
    assert list(zip(payloads, found, strict=True)) == list(zip(payloads, expected, strict=True))
