"""The schemas of the records that this version reads: its own, those of older versions, and those that a user keeps.

`avro/older` holds the schema of each older version, one file a fingerprint. `avro/fingerprints.csv` lists them in the
order of the versions; the last one of a record is in use. `orion_beam.schemas.write` keeps both.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.write import WRITTEN_MODELS, listed_fingerprints, older_path


@cache
def readable_schemas(model: type[BaseModel], kept: tuple[str, ...] = ()) -> Mapping[bytes, str]:
    """Return the schemas of a record that resolve to the schema in use, by the header of their single objects.

    Args:
        model: One of WRITTEN_MODELS, or UnifiedCdr with the fields of stages of the user's own.
        kept: Schemas of other versions that a user keeps, as JSON text. Those of other records are left out.

    Returns:
        The schema in use comes first. A record with fields of the user's own may also lack them.
    """
    name, own = model.__name__, avro_schema(model)
    plain = next(avro_schema(each) for each in WRITTEN_MODELS if each.__name__ == name)
    blocks = json.loads(own)["fields"][len(json.loads(plain)["fields"]) :]
    older = _older_schemas(name)
    with_blocks = [_with_fields(schema, blocks) for schema in older] if blocks else []
    known = [own, plain, *(schema for schema in kept if record_name(schema) == name), *with_blocks, *older]
    schemas: dict[bytes, str] = {}
    for schema in known:
        schemas.setdefault(single_object_header(schema), schema)
    return schemas


def record_name(schema: str) -> str:
    """Return the name of the record that a schema declares, without its namespace."""
    return str(json.loads(schema)["name"]).rpartition(".")[2]


@cache
def _older_schemas(name: str) -> tuple[str, ...]:
    """Return the schemas of older versions of a record, newest first."""
    versions = [digits for record, digits in listed_fingerprints() if record == name]
    return tuple(older_path(name, digits).read_text(encoding="utf-8") for digits in reversed(versions[:-1]))


def _with_fields(schema: str, fields: list[dict[str, Any]]) -> str:
    parsed = json.loads(schema)
    return json.dumps(parsed | {"fields": parsed["fields"] + fields})
