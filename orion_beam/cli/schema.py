"""`orion-beam schema`: show the records' schemas, and check whether a changed one is still compatible."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orion_beam.cli.shared.given import refuse_unused
from orion_beam.cli.shared.job_defaults import stages_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.errors import UserError

if TYPE_CHECKING:
    from orion_beam.custom_stages.declaration import JobStage

with late_imports():
    from pydantic import BaseModel

    from orion_beam.job_file.new_workspace import job_schema
    from orion_beam.schema_tools.avro_compatibility import compatibility
    from orion_beam.schema_tools.kept_schemas import keep_schema
    from orion_beam.schemas.cdr import UnifiedCdr
    from orion_beam.schemas.derive import arrow_schema, avro_schema
    from orion_beam.schemas.write import WRITTEN_MODELS
    from orion_beam.text_files.text_file import text_in, why_unreadable
    from orion_beam.workspace import needed_workspace

app = typer.Typer(help="Show the records' schemas; check that a changed one is compatible.", no_args_is_help=True)


def _short_name(model: type[BaseModel]) -> str:
    """Return the name that people type, such as cdr or dead-letter."""
    if model.__name__ == "UnifiedCdr":
        return "cdr"
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in model.__name__).lstrip("-")


def _with_fields_of(stages: "tuple[JobStage, ...]") -> type[BaseModel]:
    # Here, because it imports Beam, and the schemas of a job without such stages need no Beam.
    from orion_beam.custom_stages.declaration import final_model_of

    return final_model_of(stages)


def _named(name: str, context: typer.Context) -> type[BaseModel]:
    """Return the model of a name; that of CDRs has the fields of the job's own stages."""
    for model in WRITTEN_MODELS:
        if name.lower() in (model.__name__.lower(), _short_name(model)):
            stages = stages_of(context) if model is UnifiedCdr else ()
            return _with_fields_of(stages) if stages else model
    raise UserError(f"unknown record {name!r}: known are {', '.join(map(_short_name, WRITTEN_MODELS))}")


@app.command(epilog="Example: orion-beam schema show cdr > cdr.avsc")
def show(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="Name of a record, such as cdr or dead-letter; without it, list all."),
    ] = None,
    arrow: Annotated[bool, typer.Option("--arrow", help="Print the Arrow schema instead of the Avro schema.")] = False,
) -> None:
    """Print the Avro or Arrow schema of a record, or list all records.

    In a workspace, the schema of CDRs has the fields of the job's own stages.
    """
    if name is None:
        refuse_unused(context, ["arrow"], "without the name of a record")
        for listed in WRITTEN_MODELS:
            doc = " ".join((listed.__doc__ or "").split())
            typer.echo(f"{_short_name(listed):<16}{listed.__name__:<15}{len(listed.model_fields):>3} fields  {doc}")
        return
    model = _named(name, context)
    if arrow:
        typer.echo(arrow_schema(model).to_string())
    else:
        typer.echo(avro_schema(model), nl=False)


@app.command(epilog="Example: orion-beam schema job > .orion/job.schema.json")
def job() -> None:
    """Print the JSON Schema of orion.yaml, for editors. A new workspace has it as `.orion/job.schema.json`."""
    typer.echo(job_schema(), nl=False)


def _read(path: Path) -> str:
    try:
        return text_in(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {why_unreadable(error)}") from None


def _in_use(schema: str, path: Path, context: typer.Context) -> str:
    """Return the version in use of the record that `schema` declares."""
    try:
        name = json.loads(schema)["name"]
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path} declares no record: give OLD and NEW, or a record of ORION Beam") from None
    return avro_schema(_named(str(name).rpartition(".")[2], context))


@app.command(epilog="Example: orion-beam schema keep cdr")
def keep(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a record, such as cdr or normalized-cdr.")] = "cdr",
) -> None:
    """Write the schema of a record to the workspace's `schemas/`, before it changes.

    The job's versions to come read the records that were written with it. A version that was rolled back reads those of
    the newer one, if the newer one's schema is kept. The schemas of ORION Beam's own older versions are known.
    """
    typer.echo(keep_schema(needed_workspace(), _named(name, context)))


@app.command(epilog="Example: orion-beam schema check cdr-v1.avsc cdr-v2.avsc")
def check(
    context: typer.Context,
    schemas: Annotated[
        list[Path],
        typer.Argument(metavar="[OLD] NEW", help="Two .avsc files. OLD is by default the version in use."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check that two versions of a schema can read each other's records. Exit code 1 when they cannot."""
    if len(schemas) > 2:
        raise UserError(f"schema check takes OLD and NEW, or only NEW, not {len(schemas)} files")
    new = _read(schemas[-1])
    old = _read(schemas[0]) if len(schemas) == 2 else _in_use(new, schemas[0], context)
    found = compatibility(old, new)
    if as_json:
        listed = [asdict(incompatibility) for incompatibility in found]
        typer.echo(json.dumps({"compatible": not found, "incompatibilities": listed}, indent=2))
    elif found:
        for incompatibility in found:
            typer.echo(str(incompatibility))
    else:
        typer.echo("compatible: old and new read each other's records")
    if found:
        raise typer.Exit(1)
