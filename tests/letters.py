"""The headers of one dead letter, for tests that have it as a mapping."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from orion_beam.dead_letters import Headers, messages_of
from schemas.dead_letter import DEAD_LETTER_SCHEMA


def headers_of(letter: Mapping[str, Any]) -> Headers:
    (message,) = messages_of(pa.RecordBatch.from_pylist([letter], schema=DEAD_LETTER_SCHEMA))
    return message.headers
