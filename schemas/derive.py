"""Derivation of Arrow and Avro schemas from the pydantic models, so that each record is declared once."""

import json
from datetime import date, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo

AVRO_NAMESPACE = "orion.cdr"
AVRO_DIRECTORY = Path(__file__).parent / "avro"
"""Directory of the checked-in Avro schemas."""


class Int32Width:
    """Annotation mark of a 32-bit int field. An int field without the mark has 64 bits."""


Int32 = Annotated[int, Int32Width()]

_ARROW_SCALARS: dict[type, pa.DataType] = {
    str: pa.string(),
    bytes: pa.binary(),
    bool: pa.bool_(),
    int: pa.int64(),
    Int32Width: pa.int32(),
    float: pa.float64(),
    datetime: pa.timestamp("ms", "UTC"),
    date: pa.date32(),
}


_AVRO_SCALARS: dict[type, Any] = {
    str: "string",
    bytes: "bytes",
    bool: "boolean",
    int: "long",
    Int32Width: "int",
    float: "double",
    datetime: {"type": "long", "logicalType": "timestamp-millis"},
    date: {"type": "int", "logicalType": "date"},
}


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    """Return the plain type of an annotation and whether it allows None.

    Annotated and None are removed, Literal and enum become str, and an Int32 becomes its mark, Int32Width.
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *marks = get_args(annotation)
        return (Int32Width, False) if any(isinstance(mark, Int32Width) for mark in marks) else _unwrap(inner)
    if origin is Literal:
        return str, False
    if origin in (Union, UnionType):
        (inner,) = [member for member in get_args(annotation) if member is not NoneType]
        return _unwrap(inner)[0], True
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return str, False
    return annotation, False


def _type_of(field: FieldInfo) -> tuple[Any, bool]:
    """Return the unwrapped type of a field and whether it is nullable."""
    annotation, nullable = _unwrap(field.annotation)
    # pydantic moves a field's outermost marks from the annotation to its metadata.
    return (Int32Width if any(isinstance(mark, Int32Width) for mark in field.metadata) else annotation), nullable


def _arrow_type(annotation: Any) -> pa.DataType:
    if get_origin(annotation) is list:
        return pa.list_(_arrow_type(_unwrap(get_args(annotation)[0])[0]))
    if issubclass(annotation, BaseModel):
        return pa.struct(_arrow_fields(annotation))
    return _ARROW_SCALARS[annotation]


def _arrow_fields(model: type[BaseModel]) -> list[pa.Field]:
    return [pa.field(name, _arrow_type(_type_of(field)[0])) for name, field in model.model_fields.items()]


@cache
def arrow_schema(model: type[BaseModel]) -> pa.Schema:
    """Return the Arrow schema of a model: its fields in order, all nullable.

    Args:
        model: Flat pydantic model. It may nest only lists and lists of flat models.
    """
    return pa.schema(_arrow_fields(model))


def _avro_type(annotation: Any) -> Any:
    if get_origin(annotation) is list:
        return {"type": "array", "items": _avro_type(_unwrap(get_args(annotation)[0])[0])}
    if issubclass(annotation, BaseModel):
        return {"type": "record", "name": annotation.__name__, "fields": _avro_fields(annotation)}
    return _AVRO_SCALARS[annotation]


def default_of(field: FieldInfo) -> Any:
    """Return the value of a field in a record that was written without it: its default, or null if it has none."""
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _avro_fields(model: type[BaseModel]) -> list[dict[str, Any]]:
    fields = []
    for name, field in model.model_fields.items():
        annotation, nullable = _type_of(field)
        avro = _avro_type(annotation)
        entry: dict[str, Any] = {"name": name, "type": ["null", avro] if nullable else avro}
        # With a default, a reader of this version can read a record that was written without the field.
        if nullable or not field.is_required():
            entry["default"] = default_of(field)
        if field.description:
            entry["doc"] = field.description
        fields.append(entry)
    return fields


@cache
def avro_schema(model: type[BaseModel]) -> str:
    """Return the Avro schema of `model` as JSON text, in the `orion.cdr` namespace."""
    doc = (model.__doc__ or "").strip().split("\n\n")[0]
    record = {"type": "record", "name": model.__name__, "namespace": AVRO_NAMESPACE, "doc": " ".join(doc.split())}
    return json.dumps(record | {"fields": _avro_fields(model)}, indent=2, ensure_ascii=False) + "\n"


@cache
def text_schema(model: type[BaseModel], count: int | None = None) -> str:
    """Return the Avro schema of the model's first `count` fields, by default of all, with string for bytes.

    Avro encodes both alike (Avro 1.12 specification, Binary encoding).
    """

    def text(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: value if key in ("name", "doc") else text(value) for key, value in part.items()}
        if isinstance(part, list):
            return [text(item) for item in part]
        return "string" if part == "bytes" else part

    schema = text(json.loads(avro_schema(model)))
    return json.dumps(schema | {"fields": schema["fields"][:count]})


@cache
def required_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of the fields of a model that are never null."""
    return tuple(name for name, field in model.model_fields.items() if not _type_of(field)[1])


def avsc_path(model: type[BaseModel]) -> Path:
    """Return the path of the checked-in `.avsc` of a model."""
    return AVRO_DIRECTORY / f"{model.__name__}.avsc"
