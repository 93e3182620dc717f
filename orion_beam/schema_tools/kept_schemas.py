"""Schemas of other versions that a workspace keeps in `schemas/`, so that their records are read as well."""

from pathlib import Path

from pydantic import BaseModel

from orion_beam.errors import UserError
from orion_beam.schema_tools.avro_compatibility import Direction, compatibility
from orion_beam.schemas.avro_format import fingerprint_digits
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.older import record_name
from orion_beam.schemas.write import WRITTEN_MODELS
from orion_beam.workspace import Workspace, find_workspace


def kept_schemas(workspace: Workspace | None = None) -> tuple[str, ...]:
    """Return the schemas that a workspace keeps, as JSON text. Without a workspace there are none.

    Args:
        workspace: The workspace; None for the one in use.

    Raises:
        UserError: A file is no schema of a record of ORION Beam, or this version cannot read its records. The message
            names the file.
    """
    workspace = workspace or find_workspace()
    paths = sorted(workspace.schemas.glob("*.avsc")) if workspace else []
    return tuple(_checked(path) for path in paths)


def keep_schema(workspace: Workspace, model: type[BaseModel]) -> Path:
    """Write the schema of a record to the workspace's `schemas/`; return the file."""
    schema = avro_schema(model)
    workspace.schemas.mkdir(exist_ok=True)
    path = workspace.schemas / f"{model.__name__}-{fingerprint_digits(schema)}.avsc"
    path.write_text(schema, encoding="utf-8")
    return path


def _checked(path: Path) -> str:
    try:
        schema = path.read_text(encoding="utf-8")
        name = record_name(schema)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: expected the Avro schema of a record, as `orion-beam schema show` prints") from None
    model = next((each for each in WRITTEN_MODELS if each.__name__ == name), None)
    if model is None:
        names = ", ".join(each.__name__ for each in WRITTEN_MODELS)
        raise UserError(f"{path}: {name} is no record of ORION Beam: expected {names}")
    try:
        found = compatibility(schema, avro_schema(model))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for each in found:
        if each.direction is Direction.BACKWARD:
            raise UserError(f"{path}: this version cannot read its records: {each}")
    return schema
