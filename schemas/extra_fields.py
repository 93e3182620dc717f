"""Fields that stages of the user's own add to a CDR: one optional block a stage, after all other fields."""

from datetime import date, datetime
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model

from orion_beam.schemas.codes import CUSTOM_NAME

__all__ = ["ExtraBlock", "ExtraField", "ExtraType", "extended"]

_Model = TypeVar("_Model", bound=BaseModel)


class ExtraType(StrEnum):
    """Type of an extra field. All are nullable."""

    STRING = "string"
    LONG = "long"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    DATE = "date"

    @property
    def python(self) -> type:
        """The type of a value in Python."""
        return _PYTHON_TYPES[self]


_PYTHON_TYPES: dict[ExtraType, type] = {
    ExtraType.STRING: str,
    ExtraType.LONG: int,
    ExtraType.DOUBLE: float,
    ExtraType.BOOLEAN: bool,
    ExtraType.TIMESTAMP: datetime,
    ExtraType.DATE: date,
}


class ExtraField(BaseModel):
    """A field that a stage adds.

    Attributes:
        name: Name of the field within the stage's block.
        type: Type of the field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=f"^{CUSTOM_NAME}$")
    type: ExtraType


class ExtraBlock(BaseModel):
    """The fields that a stage adds. In Avro they are a nullable record, which has the stage's name.

    Attributes:
        stage: Name of the stage.
        fields: Its fields, at least one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    fields: tuple[ExtraField, ...] = Field(min_length=1)

    @property
    def model(self) -> type[BaseModel]:
        """The model of the block; its Arrow types are those of the columns."""
        return _block_model(self)


@cache
def _block_model(block: ExtraBlock) -> type[BaseModel]:
    fields: dict[str, Any] = {field.name: (field.type.python | None, None) for field in block.fields}
    return create_model(block.stage, __doc__=f"Fields of the stage {block.stage}.", **fields)


@cache
def extended(model: type[_Model], blocks: tuple[ExtraBlock, ...]) -> type[_Model]:
    """Return a model with further blocks after its fields; the model itself if there are none.

    The Avro schema keeps its name. Every block is null by default, so readers with the plain schema and readers with
    the extended one read each other's records.
    """
    if not blocks:
        return model
    fields: dict[str, Any] = {
        block.stage: (block.model | None, Field(default=None, description=f"fields of the stage {block.stage}"))
        for block in blocks
    }
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, **fields)
