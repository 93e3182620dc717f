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


def read_final_value(value: bytes, model: type[UnifiedCdr] = UnifiedCdr) -> dict[str, Any] | None:
    """Return the fields of a CDR; None if the value is not a CDR of this version.

    Args:
        value: Avro single object, Avro in Confluent's wire format, or JSON.
        model: Model of the CDRs of the job, with the fields of its own stages. CDRs without these are read as well.
    """
    if value.startswith(b"{"):
        return _from_json(value)
    for each in (model, UnifiedCdr):
        header = single_object_header(avro_schema(each))
        if value.startswith(header):
            return _from_avro(value[len(header) :], each)
    if not value.startswith(MAGIC_BYTE):
        return None
    # The registry's id of the schema is not asked for: a record of one of the two is none of the other.
    body = value[CONFLUENT_HEADER_BYTES:]
    return _from_avro(body, model) or _from_avro(body, UnifiedCdr)


def _from_avro(body: bytes, model: type[UnifiedCdr]) -> dict[str, Any] | None:
    content = io.BytesIO(body)
    try:
        record = fastavro.schemaless_reader(content, _schema(model), None)
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
def _schema(model: type[UnifiedCdr]) -> Any:
    return fastavro.parse_schema(json.loads(avro_schema(model)))
