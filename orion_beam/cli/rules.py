"""`orion-beam rules`: the rules that a CDR must keep, the effect of breaking each, and the standard behind it."""

import json
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table

from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.given import refuse_unused
from orion_beam.cli.shared.job_defaults import stages_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import Profiles
from orion_beam.schemas.codes import Code, CustomCode, Severity, internal_error_of

with late_imports():
    from orion_beam.countries import profiles_of
    from orion_beam.custom_stages.declaration import JobStage
    from orion_beam.transforms.rules.rules import RULES, Rule, severity_of

_HEADING = """# The rules of validation

Written by `make docs` from `transforms/rules`. A country may switch the severity of a rule that is not fixed, in
the table `[rules]` of [its profile](profiles.md): `luhn_failed = "error"`.

| severity | what a broken rule does |
|---|---|
| error | the record becomes a [dead letter](../concepts/dead-letters.md) with this [code](codes.md) |
| warn | the CDR goes on; its `warnings` name the rule, and a field that the rule clears becomes null |
| off | nothing: the rule is not checked |

| id | field | severity | may be switched | meaning | source |
|---|---|---|---|---|---|
"""


_SWITCHED_ON = {
    "id": Code.DUPLICATE.value,
    "code": Code.DUPLICATE.value,
    "field": "duplicate_of",
    "severity": Severity.WARN.value,
    "fixed": False,
    "meaning": Code.DUPLICATE.meaning,
    "source": "the natural key of the country's profile",
}
"""Entry for the warning of FlagDuplicates, which is no rule of validation because it looks at other rows as well."""

_FOOTING = f"""
`orion-beam run --flag-duplicates` adds the warning `{_SWITCHED_ON["id"]}`:
{_SWITCHED_ON["meaning"]}.
See [duplicates](../guides/record-checks.md#duplicates).
"""


def markdown() -> str:
    """Return `docs/reference/rules.md`."""
    return (
        _HEADING
        + "".join(
            f"| `{rule.id}` | {rule.violation.field} | {rule.severity} | {_switchable(rule)} "
            f"| {rule.violation.code.meaning} | {rule.source} |\n"
            for rule in RULES
        )
        + _FOOTING
    )


def _switchable(rule: Rule) -> str:
    if rule.is_fixed:
        return "no"
    return "yes; clears the field" if rule.clears_field else "yes"


def _entries_of(stage: JobStage) -> Iterator[dict[str, object]]:
    """Yield an entry for each code of a stage of the user's own."""
    own = [CustomCode(f"{stage.name}.{code}", meaning) for code, meaning in stage.codes.items()]
    for code in (*own, internal_error_of(stage.name)):
        yield {
            "id": code.value,
            "code": code.value,
            "field": "",
            "severity": Severity.ERROR.value,
            "fixed": True,
            "meaning": code.meaning,
            "source": f"the stage {stage.name}, after {stage.after}",
        }


def rules(
    context: typer.Context,
    country: Annotated[
        str | None, typer.Option(help="Show the severities that this country's profile gives, such as FR.")
    ] = None,
    profiles: Profiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/reference/rules.md.")] = False,
) -> None:
    """List the rules of validation: id, field, severity, meaning, source; then the codes of your own stages.

    Example: orion-beam rules --country FR --json

    Example: orion-beam rules --country FR --profiles profiles
    """
    if as_markdown:
        refuse_unused(
            context, ["country", "profiles", "as_json"], "with --markdown, which is docs/reference/rules.md as it is"
        )
    if country is None:
        refuse_unused(context, ["profiles"], "without --country")
    code = None if country is None else country.upper()
    profile = None if code is None else profiles_of([code], profiles)[code]
    listed = [
        {
            "id": rule.id,
            "code": rule.violation.code.value,
            "field": rule.violation.field,
            "severity": (rule.severity if profile is None else severity_of(rule, profile)).value,
            "fixed": rule.is_fixed,
            "meaning": rule.violation.code.meaning,
            "source": rule.source,
        }
        for rule in RULES
    ] + [_SWITCHED_ON, *(entry for stage in stages_of(context) for entry in _entries_of(stage))]
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
    elif as_markdown:
        typer.echo(markdown(), nl=False)
    else:
        table = Table("id", "severity", "meaning", "source")
        for entry in listed:
            table.add_row(*(str(entry[name]) for name in ("id", "severity", "meaning", "source")))
        console_of().print(table)
