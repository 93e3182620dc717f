"""`orion-beam config`: the effective configuration of the workspace, and where each value comes from."""

import json
import os
from typing import Annotated, Any

import typer

from orion_beam.cli.shared.late import late_imports
from orion_beam.job_file.environment import PREFIX_VARIABLE, default_group
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.workspace import WORKSPACE_VARIABLE

with late_imports():
    from orion_beam.job_file.effective import EffectiveValue, effective_values
    from orion_beam.job_file.read import find_job
    from orion_beam.topics.names import own_topics

app = typer.Typer(help="Show the effective configuration of the workspace.", no_args_is_help=True)


@app.callback()
def _config() -> None:
    """Show the effective configuration of the workspace."""


@app.command(epilog="Example: orion-beam config show")
def show(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False
) -> None:
    """Print every value of the job, and where it comes from: file and line, environment, option or default.

    Secrets are masked. The names of topics and of the group have the topic prefix. Without a workspace, all values are
    defaults.
    """
    job = find_job()
    outer = {}
    if login := os.environ.get(CONFIG_VARIABLE):
        outer["login"] = (login, _source(context, "kafka_config", CONFIG_VARIABLE))
    if (prefix := os.environ.get(PREFIX_VARIABLE)) is not None:
        outer["topics.prefix"] = (prefix, _source(context, "topic_prefix", PREFIX_VARIABLE))
    own = own_topics()
    names = {"group": default_group(), "topics.final": own.final.name, "topics.dead_letters": own.dead_letters.name}
    values = [
        EffectiveValue(
            "workspace",
            None if job is None else str(job.workspace.root),
            _source(context, "workspace", WORKSPACE_VARIABLE, "found from the current directory upwards"),
        ),
        *(each._replace(value=names.get(each.key, each.value)) for each in effective_values(job, outer)),
    ]
    if as_json:
        typer.echo(json.dumps([value._asdict() for value in values], indent=2))
        return
    rows = [(value.key, _written(value.value), value.source) for value in values]
    keys, texts = (max(len(row[column]) for row in rows) for column in (0, 1))
    for key, text, source in rows:
        typer.echo(f"{key:<{keys}}  {text:<{texts}}  {source}")


def _source(context: typer.Context, parameter: str, variable: str, otherwise: str = "") -> str:
    """Return where the value of a global option comes from."""
    source: Any = context.find_root().get_parameter_source(parameter)
    if source is not None and source.name == "COMMANDLINE":
        return f"option --{parameter.replace('_', '-')}"
    return f"environment {variable}" if os.environ.get(variable) else otherwise


def _written(value: object) -> str:
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return json.dumps(value) if isinstance(value, bool) else str(value or "-")
