"""The page of the data model has every field of the unified CDR, with its type."""

import json
import re
from pathlib import Path
from typing import Any

from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "data-model.md"


def name_of(kind: Any) -> str:
    match kind:
        case ["null", inner]:
            return f"{name_of(inner)}?"
        case {"logicalType": name}:
            return str(name)
        case {"type": "array", "items": item}:
            return f"array of {item}"
    return str(kind)


def test_every_field_of_the_cdr_is_explained_with_its_type_unit_source_and_when_it_is_null():
    types = {field["name"]: name_of(field["type"]) for field in json.loads(avro_schema(UnifiedCdr))["fields"]}
    lines = PAGE.read_text(encoding="utf-8").partition("## ")[0].splitlines()
    rows = (re.fullmatch(r"\| ([a-z_]+) \| (.+) \| (.+) \| (.+) \| (.+) \|", line) for line in lines[2:])
    explained = {row[1]: row.groups()[1:] for row in rows if row and row[1] != "field"}
    assert {name: cells[0] for name, cells in explained.items()} == types
    assert [name for name, cells in explained.items() if cells[0].endswith("?") == cells[3].startswith("never")] == []
