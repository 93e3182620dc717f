"""Pages of docs/reference that are made from code: raw formats, rules, codes, commands, country profiles, job file.

`python -m scripts.pages` rewrites them. tests/test_docs.py fails when a page differs from what this module makes.
"""

import json
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import accumulate
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import typer
from pydantic import BaseModel, JsonValue

from orion_beam.access.roles import ROLES
from orion_beam.cli.main import SUBCOMMANDS
from orion_beam.cli.rules import markdown as rules_page
from orion_beam.countries import all_profiles
from orion_beam.job_file.model import JobFile
from orion_beam.monitoring.letters import known_kinds
from orion_beam.schemas.codes import Code
from orion_beam.schemas.country import CountryProfile, Town
from orion_beam.schemas.raw_formats.declaration import (
    FixedWidthFormat,
    JsonFormat,
    PairsFormat,
    SeparatedFormat,
)
from orion_beam.schemas.raw_formats.sources import COUNT_FIELDS
from orion_beam.transforms.decoders import RawFormat
from orion_beam.transforms.decoders.registry import SENT_BY_ALL, all_formats
from orion_beam.transforms.rules.rules import RULES

ROOT = Path(__file__).parents[1]

_REQUIRED = ("imsi", "msisdn", "event_time")

_RAW_FORMATS = """\
# The raw formats

Written by `make docs` from the declarations in `transforms/decoders/shipped/`. [Add a
format](../guides/add-a-format.md) says how to declare one of your own. One record is one message in UTF-8. The decoder
tells formats apart record by record, so a country may mix its own formats with those that every country may send. It
trims blanks around a record or a field, a byte order mark, and a carriage return at the end. An empty optional field
is null.

- A *required* field is imsi, msisdn or event time, and the event type where a format always has one. A record
  without it is rejected, see [the rules](rules.md).
- A *count* is a whole number.
- A *time* has one of the spellings of [the unified CDR](data-model.md#event-times).
- Members and keys that a format does not know are ignored. One that looks like usage, such as `bytes_up` beside
  `bytes_uploaded`, may come from a feed that has changed its names. The worker warns of it once and counts it in
  [`orion_unread_members_total`](metrics.md#workers); the report of a run over files counts it, too.
"""


class _Place(NamedTuple):
    """A field's place in a record, and its names in the unified CDR."""

    where: str
    field: str


def _places(raw_format: RawFormat) -> tuple[str, list[_Place]]:
    """Return the heading of the table's first column, and the fields of a format."""
    declaration = raw_format.declaration
    if isinstance(declaration, JsonFormat):
        found = [(each.sources, each.field) for each in declaration.sources]
        return "member", [_Place(", else ".join(f"`{path}`" for path in paths), field) for paths, field in found]
    fields = [(name, each.field) for each in declaration.sources for name in each.sources]
    fields += [(each.source, ", ".join(each.fields)) for each in declaration.maps]
    if isinstance(declaration, SeparatedFormat):
        names, heading = declaration.columns, "column"
        where = [f"{place} `{name}`" for place, name in enumerate(names, 1)]
    elif isinstance(declaration, FixedWidthFormat):
        names, heading = tuple(name for name, _ in declaration.columns), "characters (width)"
        ends = accumulate(width for _, width in declaration.columns)
        where = [
            f"{end - width + 1} to {end} ({width})" for end, (_, width) in zip(ends, declaration.columns, strict=True)
        ]
    else:
        assert isinstance(declaration, PairsFormat)
        names, heading = tuple(name for name, _ in fields), "key"
        where = [f"`{name}{declaration.sign}`" for name in names]
    return heading, [
        _Place(place, "; ".join(field for source, field in fields if source == name) or "not read")
        for place, name in zip(where, names, strict=True)
    ]


def _kind(raw_format: RawFormat, field: str) -> str:
    kind = "count" if field in COUNT_FIELDS else "time" if field == "event_time" else "text"
    is_required = field in _REQUIRED or (field == "event_type" and raw_format.has_event_type)
    return f"{kind}, required" if is_required else kind


def _section(raw_format: RawFormat) -> Iterator[str]:
    countries = [code for code, profile in all_profiles().items() if raw_format.name in profile.formats]
    yield f"\n## {raw_format.name}\n"
    yield f"Sent by {'every country' if raw_format.name in SENT_BY_ALL else ', '.join(countries)}.\n"
    yield raw_format.declaration.description.strip() + "\n"
    heading, places = _places(raw_format)
    yield f"| {heading} | unified field | read as |"
    yield "|---|---|---|"
    for place in places:
        yield f"| {_cell(place.where)} | {place.field} | {_kind(raw_format, place.field)} |"
    for each in raw_format.declaration.maps:
        yield f"\n| {each.source} | {' | '.join(each.fields)} |"
        yield f"|{'---|' * (1 + len(each.fields))}"
        for value, given in each.values:
            yield f"| {value} | {' | '.join(dict(given).get(field, '') for field in each.fields)} |"


def raw_formats_page() -> str:
    """Return the page of all raw formats in Markdown."""
    lines = [_RAW_FORMATS.rstrip("\n")]
    for raw_format in all_formats().values():
        lines += _section(raw_format)
    return "\n".join(lines) + "\n"


_COMMANDS = """\
# Commands

Written by `make docs` from the commands' own `--help`. The commands are in `.venv/bin` after `make setup`. All of
them take `-h` and `--help`.

| exit code | meaning |
|---|---|
| 0 | all is well |
| 1 | the command worked and its answer is no (records are missing, a check failed), or the job failed by itself |
| 2 | something that you gave or have installed needs mending; one line on standard error says what |
| 130 | Ctrl-C |

For a cluster that wants a login, `orion-beam --kafka-config FILE COMMAND` names a file of Kafka's settings for any
command, as `ORION_KAFKA_CONFIG` does: [Log in to a cluster](../operate/login.md).
"""


def commands_page() -> str:
    """Return the page of all commands, with their arguments, options and examples, in Markdown."""
    commands = dict(_all_commands())
    index = ["| command | what it does |", "|---|---|"]
    for name, command in commands.items():
        first = " ".join((command.help or "").partition("\n\n")[0].split())
        index.append(f"| [`{name}`](#{name.replace(' ', '-')}) | {_cell(first)} |")
    sections = (line for name, command in commands.items() for line in _command(name, command))
    return "\n".join([_COMMANDS, *index, *sections]) + "\n"


def _all_commands() -> Iterator[tuple[str, Any]]:
    """Yield full name and command, and for a group of commands those of its members."""
    for name, entry in SUBCOMMANDS.items():
        own = entry.load(name)
        for inner, command in getattr(own, "commands", {"": own}).items():
            yield f"orion-beam {name} {inner}".strip(), command
        for inner, each in entry.subcommands.items():
            yield f"orion-beam {name} {inner}", each.load(f"{name} {inner}")


def _command(name: str, command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=name)
    help_and_epilog = f"{command.help or ''}\n\n{command.epilog or ''}".strip()
    paragraphs = [" ".join(paragraph.split()) for paragraph in help_and_epilog.split("\n\n")]
    yield f"\n## {name}\n"
    yield from _texts(text for text in paragraphs if not text.startswith("Example: "))
    examples = [text.removeprefix("Example: ") for text in paragraphs if text.startswith("Example: ")]
    if examples:
        yield "```console"
        for example in examples:
            # An option and its value stay on one line.
            joined = re.sub(" (?!--)", "\0", example)
            lines = textwrap.wrap(joined, 110, subsequent_indent="    ", break_on_hyphens=False)
            yield " \\\n".join(lines).replace("\0", " ")
        yield "```\n"
    yield "| argument, option | meaning |"
    yield "|---|---|"
    for parameter in command.params:
        if not parameter.hidden and (record := parameter.get_help_record(context)) is not None:
            written, meaning = record
            # A default may be a path on this machine.
            meaning = meaning.replace(f"{ROOT}/", "")
            yield f"| `{_cell(written)}` | {_cell(meaning)} |"


def _texts(paragraphs: Iterable[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        # Text between backticks stays on one line.
        joined = re.sub("`[^`]+`", lambda code: code[0].replace(" ", "\0"), paragraph)
        lines = textwrap.fill(joined, 115, break_long_words=False, break_on_hyphens=False)
        yield lines.replace("\0", " ") + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


_CODES = """\
# Stages and codes

Written by `make docs` from `schemas/codes.py`. A record that a stage rejects becomes a [dead
letter](../concepts/dead-letters.md) with every code that applies. A code of which all rules only warn goes into the
CDR's `warnings` instead, unless the country's profile says otherwise; [the rules](rules.md) have the details.
[A stage of your own](../guides/own-stages.md) has codes `STAGE.CODE`; `orion-beam rules` lists them.

| code | stage | by default | meaning |
|---|---|---|---|
"""


def codes_page() -> str:
    """Return the page of all codes in Markdown: the stage that finds each, and what becomes of the record."""
    stages: dict[str, list[str]] = {}
    for kind in known_kinds(["any"]):
        stages.setdefault(kind.code, []).append(kind.stage)
    severities = {
        code: {rule.severity.value for rule in RULES if rule.violation.code is code} or {"error"} for code in Code
    }
    severities[Code.DUPLICATE] = {"warn"}
    stages[Code.DUPLICATE] = ["flag_duplicates"]
    does = {"error": "dead letter", "warn": "warning"}
    return _CODES + "".join(
        f"| `{code.value}` | {'any' if len(stages[code.value]) > 1 else stages[code.value][0]} "
        f"| {', '.join(does[severity] for severity in sorted(severities[code]))} | {code.meaning} |\n"
        for code in Code
    )


_PROFILES = """\
# Country profiles

Written by `make docs` from `schemas/country.py`. A profile is one TOML file, `CODE.toml`. The shipped profiles are
in `orion_beam/profiles`; those in `countries/` of a [workspace](../guides/workspace.md) replace them or add to them. A
profile is checked when it is loaded; an error names the file and the field. `--profiles DIR` takes the profiles of a
directory instead of all these. [Add a country](../guides/add-a-country.md) says how to begin.

## Fields of a profile

| field | type | default | meaning |
|---|---|---|---|
"""


def profiles_page() -> str:
    """Return the page of a country profile's fields in Markdown."""
    return _PROFILES + _fields_of(CountryProfile) + _TOWNS + _fields_of(Town)


_TOWNS = """
## Towns

`orion-beam generate` puts a country's cells around its towns, in `CODE.towns.csv` beside the profile: a line of column
names, then a line for each town. A country without the file has made-up towns, and cells without coordinates.

| column | type | default | meaning |
|---|---|---|---|
"""


def _fields_of(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    return "".join(
        f"| `{name}` | {_toml_type(field)} | {_toml_default(name, field, schema['required'])}"
        f" | {_cell(field.get('description', ''))} |\n"
        for name, field in schema["properties"].items()
        if name != "declared_formats"
    )


_TOML = {"string": "text", "boolean": "true or false", "integer": "number", "number": "number", "array": "list"}


def _toml_type(field: Mapping[str, Any]) -> str:
    # An optional field may be null in the model; in TOML it is left out.
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    if "enum" in kinds[0]:
        return " or ".join(f"`{value}`" for value in kinds[0]["enum"])
    return _TOML[kinds[0]["type"]]


def _toml_default(name: str, field: Mapping[str, Any], required: Collection[str]) -> str:
    if name in required:
        return "required"
    default = field.get("default")
    if isinstance(default, list):
        return ", ".join(f"`{each}`" for each in default) or "none"
    return "none" if default is None else f"`{json.dumps(default)}`"


_JOB_FILE = """\
# The job file

Written by `make docs` from `orion_beam/job_file/model.py`. The file is `orion.yaml` of [a workspace of your
own](../guides/workspace.md). A key that is left out has its default, which is that of the command's option. A duration
is 90s, 15m, 12h or 7d. `orion-beam schema job` prints the JSON Schema.

| key | type | default | meaning |
|---|---|---|---|
"""


def job_file_page() -> str:
    """Return the page of all keys of the job file in Markdown."""
    rows = []
    for key, field in _job_keys(JobFile):
        default = "required" if field.is_required() else _yaml_default(field.get_default(call_default_factory=True))
        rows.append(f"| `{key}` | {_yaml_type(field.annotation)} | {default} | {_cell(field.description or '')} |\n")
    return _JOB_FILE + "".join(rows)


def _job_keys(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key with its field; a section by its keys only."""
    for name, field in model.model_fields.items():
        inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if _is_section(kind)]
        if not inner or field.description:
            yield f"{above}{name}", field
        below = f"{above}{name}[]." if get_origin(field.annotation) is tuple else f"{above}{name}."
        for kind in inner:
            yield from _job_keys(kind, below)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


_YAML: Mapping[Any, str] = {str: "text", int: "number", float: "number", bool: "true or false", JsonValue: "any"}


def _yaml_type(kind: Any) -> str:
    arguments = [each for each in get_args(kind) if each not in (Ellipsis, NoneType)]
    if kind in _YAML:
        return _YAML[kind]
    if _is_section(kind) or get_origin(kind) is Mapping:
        return "keys and values"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _either(kind)
    if get_origin(kind) is Literal:
        return _either(arguments)
    if get_origin(kind) is Annotated:
        return _yaml_type(arguments[0])
    if get_origin(kind) is tuple:
        return "list"
    return " or ".join(dict.fromkeys(map(_yaml_type, arguments)))


def _either(values: Iterable[Any]) -> str:
    return " or ".join(f"`{getattr(value, 'value', value)}`" for value in values)


def _yaml_default(value: Any) -> str:
    if value is None or value in ("", (), {}):
        return "none"
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    return f"`{text.replace(f'{ROOT}/', '')}`"


_ROLES = """\
# Roles and their rights

Written by `make docs` from `orion_beam/access/roles.py`. [Rights of each role](../operate/acls.md) says how users get
them. READ and WRITE include DESCRIBE, and ALTER_CONFIGS includes DESCRIBE_CONFIGS.
"""


def roles_page() -> str:
    """Return the page of all roles in Markdown: the commands of each, and the rights that they need."""
    lines = [_ROLES.rstrip("\n")]
    for role, (commands, needs) in ROLES.items():
        lines += [f"\n## {role}\n", f"For {commands}.\n", "| right | on | to |", "|---|---|---|"]
        lines += [f"| {need.operation.name} | {need.place.words} | {need.purpose} |" for need in needs]
    return "\n".join(lines) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "codes.md": codes_page,
    "commands.md": commands_page,
    "job-file.md": job_file_page,
    "profiles.md": profiles_page,
    "raw-formats.md": raw_formats_page,
    "roles.md": roles_page,
    "rules.md": rules_page,
}
"""Pages of docs/reference that are not written by hand: file name to the function that makes the page."""


if __name__ == "__main__":
    for name, page in PAGES.items():
        (ROOT / "docs" / "reference" / name).write_text(page(), encoding="utf-8")
