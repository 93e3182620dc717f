"""The chain up to a stage, for tests of the stages after it: of rows that must all be accepted."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from orion_beam.countries import all_profiles
from orion_beam.testing import raw_batch
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.normalize import normalize_batch
from orion_beam.transforms.validate import validate_batch

ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)


def validated(country: str, payloads: Sequence[bytes], **options: Any) -> pa.RecordBatch:
    profile = all_profiles()[country]
    decoded = decode_batch(raw_batch(country, payloads, **({"timestamps": ARRIVED} | options)), profile)
    outcome = validate_batch(decoded.accepted, {profile.code: profile})
    assert outcome.accepted.num_rows == len(payloads)
    return outcome.accepted


def normalized(country: str, payloads: Sequence[bytes], **options: Any) -> pa.RecordBatch:
    outcome = normalize_batch(validated(country, payloads, **options), all_profiles())
    assert outcome.accepted.num_rows == len(payloads)
    return outcome.accepted
