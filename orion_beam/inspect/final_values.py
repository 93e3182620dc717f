"""Reader of single values on cdr.final, in any of their wire formats."""

import io
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import fastavro

from orion_beam.schema_tools.registry import CONFLUENT_HEADER_BYTES, MAGIC_BYTE
from orion_beam.schemas.avro_format import SINGLE_OBJECT_HEADER_BYTES, SINGLE_OBJECT_MARKER
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema, default_of, required_fields
from orion_beam.schemas.older import readable_schemas


@dataclass
class FinalReader:
    """Reader of CDRs of this version and of older ones; all get the fields of this version.

    Attributes:
        model: Model of the CDRs of the job, with the fields of its own stages. CDRs without these are read as well.
        kept: Avro schemas of further versions, as JSON text.
        unknown: Number of values so far that have a schema that is not known.
    """

    model: type[UnifiedCdr] = UnifiedCdr
    kept: tuple[str, ...] = ()
    unknown: int = 0

    def read(self, value: bytes) -> dict[str, Any] | None:
        """Return the fields of a CDR; None if the value is not a CDR of a known version.

        Args:
            value: Avro single object, Avro in Confluent's wire format, or JSON.
        """
        if value.startswith(b"{"):
            return _from_json(value, self.model)
        schemas = readable_schemas(self.model, self.kept)
        if value.startswith(SINGLE_OBJECT_MARKER):
            schema = schemas.get(value[:SINGLE_OBJECT_HEADER_BYTES])
            self.unknown += schema is None
            return None if schema is None else _from_avro(value[SINGLE_OBJECT_HEADER_BYTES:], schema, self.model)
        if not value.startswith(MAGIC_BYTE):
            return None
        # The registry's id of the schema is not asked for: a record of one version is none of another.
        body = value[CONFLUENT_HEADER_BYTES:]
        records = (_from_avro(body, schema, self.model) for schema in schemas.values())
        return next((record for record in records if record is not None), None)


def _from_avro(body: bytes, schema: str, model: type[UnifiedCdr]) -> dict[str, Any] | None:
    content = io.BytesIO(body)
    try:
        record = fastavro.schemaless_reader(content, _parsed(schema), _parsed(avro_schema(model)))
    except (EOFError, ValueError, IndexError, OverflowError):
        return None
    return record if isinstance(record, dict) and not content.read(1) else None


def _from_json(value: bytes, model: type[UnifiedCdr]) -> dict[str, Any] | None:
    try:
        record = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not set(_fields_ever(model)) <= record.keys():
        return None
    return {name: default_of(field) for name, field in model.model_fields.items()} | record


def _fields_ever(model: type[UnifiedCdr]) -> list[str]:
    """Return the fields that the CDRs of all versions have."""
    return [name for name in required_fields(model) if model.model_fields[name].is_required()]


@cache
def _parsed(schema: str) -> Any:
    return fastavro.parse_schema(json.loads(schema))
