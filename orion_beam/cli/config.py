"""`orion-beam config`: the effective configuration of the workspace, and where each value comes from."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orion_beam.cli.shared.job_defaults import job_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.job_file.environment import PREFIX_VARIABLE, default_group
from orion_beam.job_file.options import KEYS_OF_OPTIONS, beam_options_of
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.workspace import WORKSPACE_VARIABLE

if TYPE_CHECKING:
    from orion_beam.text_files.text_file import KeyPath

with late_imports():
    from orion_beam.job_file.effective import DEFAULT, EffectiveValue, effective_values, masked_setting
    from orion_beam.job_file.read import find_job
    from orion_beam.topics.catalogue import name_place
    from orion_beam.topics.names import own_topics

app = typer.Typer(help="Show the effective configuration of the workspace.", no_args_is_help=True)


_KEYS_OF_NAMES = {
    "group_id": "group",
    "final_topic": "topics.final",
    "dead_letter_topic": "topics.dead_letters",
    "dlq_topic": "topics.dead_letters",
}
"""Keys of names that get the topic prefix, by the parameters of their options."""

_ON_FLINK = ("run", "doctor")


@app.callback()
def _config() -> None:
    """Show the effective configuration of the workspace."""


@app.command(
    epilog="Example: orion-beam config show\n\nExample: orion-beam config show run -- --parallelism=4",
    # What follows the name of a command are its options.
    context_settings={"allow_interspersed_args": False},
)
def show(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND [OPTIONS]]", help="Show what this command would run with.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Print every value of the job, and where it comes from: file and line, environment, option or default.

    With a command, print the values of its options instead. Nothing is started. Secrets are masked. The names of topics
    and of the group have the topic prefix. Without a workspace, all values are defaults.
    """
    _print(list(_values_of(context, command)) if command else _job_values(context), as_json)


def _values_of(context: typer.Context, words: list[str]) -> Iterator[EffectiveValue]:
    """Yield the values of a command's options, Beam's last."""
    from orion_beam.cli.main import command_context  # the table of commands imports this module

    asked = command_context(words, context.find_root())
    job = job_of(asked)
    for parameter in asked.command.params:
        if parameter.hidden or parameter.name not in asked.params:
            continue
        key = KEYS_OF_OPTIONS.get(parameter.name) or _KEYS_OF_NAMES.get(parameter.name)
        match asked.get_parameter_source(parameter.name).name:
            case "COMMANDLINE":
                source = "option"
            case "ENVIRONMENT":
                source = f"environment {parameter.envvar}"
            case _ if job is not None and key is not None and job.is_given(key):
                source = job.source.place(tuple(key.split(".")))
            case _:
                source = _default_source(key)
        value = asked.params[parameter.name]
        name = parameter.opts[0]
        yield EffectiveValue(name, masked_setting(name, str(value) if isinstance(value, Path) else value), source)
    if job is not None and words[0] in _ON_FLINK:
        given = {argument.partition("=")[0] for argument in asked.args}
        for argument in beam_options_of(job, given):
            name, _, text = argument.partition("=")
            key = name.removeprefix("--")
            keys: list[KeyPath] = [("flink", "options", key), ("flink", key), ("flink",)]
            where = next(each for each in keys if each in job.source.lines)
            yield EffectiveValue(f"-- {name}", (text and masked_setting(name, text)) or True, job.source.place(where))
    for argument in asked.args:
        name, _, text = argument.partition("=")
        yield EffectiveValue(f"-- {name}", (text and masked_setting(name, text)) or True, "option")


def _job_values(context: typer.Context) -> list[EffectiveValue]:
    job = find_job()
    outer = {}
    if login := os.environ.get(CONFIG_VARIABLE):
        outer["login"] = (login, _source(context, "kafka_config", CONFIG_VARIABLE))
    if (prefix := os.environ.get(PREFIX_VARIABLE)) is not None:
        outer["topics.prefix"] = (prefix, _source(context, "topic_prefix", PREFIX_VARIABLE))
    own = own_topics()
    names = {"group": default_group(), "topics.final": own.final.name, "topics.dead_letters": own.dead_letters.name}
    return [
        EffectiveValue(
            "workspace",
            None if job is None else str(job.workspace.root),
            _source(context, "workspace", WORKSPACE_VARIABLE, "found from the current directory upwards"),
        ),
        *(
            each._replace(
                value=names.get(each.key, each.value),
                source=_default_source(each.key) if each.source == DEFAULT else each.source,
            )
            for each in effective_values(job, outer)
        ),
    ]


def _default_source(key: str | None) -> str:
    """Return where a value comes from that neither options nor the job file give."""
    if key is None or not key.startswith("topics."):
        return DEFAULT
    return name_place(key.removeprefix("topics.")) or DEFAULT


def _print(values: list[EffectiveValue], as_json: bool) -> None:
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
