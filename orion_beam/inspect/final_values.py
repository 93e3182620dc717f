"""Reader of single values on cdr.final, in any of their wire formats."""

import io
import json
from functools import cache
from typing import Any

import fastavro

from orion_beam.schema_tools.registry import CONFLUENT_HEADER_BYTES, MAGIC_BYTE
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema


def read_final_value(value: bytes) -> dict[str, Any] | None:
    """Return the fields of a CDR; None if the value is not a `UnifiedCdr` of this version.

    Args:
        value: Avro single object, Avro in Confluent's wire format, or JSON.
    """
    if value.startswith(b"{"):
        return _from_json(value)
    header = single_object_header(avro_schema(UnifiedCdr))
    if value.startswith(header):
        return _from_avro(value[len(header) :])
    return _from_avro(value[CONFLUENT_HEADER_BYTES:]) if value.startswith(MAGIC_BYTE) else None


def _from_avro(body: bytes) -> dict[str, Any] | None:
    content = io.BytesIO(body)
    try:
        record = fastavro.schemaless_reader(content, _schema(), None)
    except (EOFError, ValueError, IndexError, OverflowError):
        return None
    return record if isinstance(record, dict) and not content.read(1) else None


def _from_json(value: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(value)
    except ValueError:
        return None
    return record if isinstance(record, dict) and UnifiedCdr.model_fields.keys() <= record.keys() else None


@cache
def _schema() -> Any:
    return fastavro.parse_schema(json.loads(avro_schema(UnifiedCdr)))
