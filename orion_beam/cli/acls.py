"""`orion-beam acls`: the ACLs that roles need, compared with a cluster's. Plan prints, apply changes, verify checks."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import typer
from rich.text import Text

from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import (
    OWN,
    AsJson,
    BootstrapServers,
    CountriesOption,
    Publish,
    StartFrom,
    WatchedGroup,
    parse_countries,
    parse_list,
    parse_stage,
)
from orion_beam.defaults import Role
from orion_beam.errors import UserError
from orion_beam.job_file.principals import check_principal

with late_imports():
    from orion_beam.access.acls import Acl, AclPlan, apply_acls, await_acls, plan_acls, wanted_acls
    from orion_beam.access.roles import resource_names

app = typer.Typer(help="Plan, apply and verify the ACLs of each role's users.", no_args_is_help=True)

Principals = Annotated[
    list[str] | None,
    typer.Option(
        "--principal",
        help=f"User of a role, ROLE=USER; repeatable: stream=User:orion-stream. Roles: {', '.join(Role)}",
        show_default="acls of orion.yaml",
    ),
]


@app.command(epilog="Example: orion-beam acls plan --bootstrap-servers broker:9092 --principal stream=User:orion-fr")
def plan(
    bootstrap_servers: BootstrapServers,
    principals: Principals = None,
    countries: CountriesOption = None,
    group_id: WatchedGroup = OWN,
    publish: Publish = "",
    start_from: StartFrom = None,
    as_json: AsJson = False,
) -> None:
    """Show the ACLs that the users of roles lack, and those that they have too much. Changes nothing.

    The signs are: + add, - too much, ? of everybody (`User:*`) and left alone. The exit code is always 0.
    """
    found = plan_acls(bootstrap_servers, _wanted(principals, countries, group_id, publish, start_from))
    if as_json:
        typer.echo(json.dumps(_plan_json(found), indent=2))
    else:
        _print_plan(found)


@app.command(
    epilog="Example: orion-beam acls apply --bootstrap-servers broker:9092 --principal desk=User:orion-desk --yes"
)
def apply(
    bootstrap_servers: BootstrapServers,
    principals: Principals = None,
    countries: CountriesOption = None,
    group_id: WatchedGroup = OWN,
    publish: Publish = "",
    start_from: StartFrom = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Also take away what these users have too much.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give the users of roles the ACLs that they lack. Asks first. Without --revoke, nothing is taken away.

    Exit code 0 when they have what they need and no more afterwards, 1 when something was refused or is too much.
    """
    replan = partial(plan_acls, bootstrap_servers, _wanted(principals, countries, group_id, publish, start_from))
    planned = replan()
    if not as_json:
        _print_plan(planned)
    taken = planned.excess if revoke else ()
    refused: list[str] = []
    left = planned
    if planned.missing or taken:
        if not yes:
            typer.confirm(f"Add {len(planned.missing)} and take away {len(taken)}?", abort=True, err=True)
        refused = apply_acls(bootstrap_servers, planned.missing, taken)
        # A refused change takes no effect, so there is nothing to wait for.
        left = replan() if refused else await_acls(replan, planned.missing, taken)
    if as_json:
        typer.echo(json.dumps({"refused": refused, "left": _plan_json(left)}, indent=2))
    else:
        for line in refused:
            typer.echo(f"refused: {line}", err=True)
        typer.echo("The users of the roles have what they need, and no more." if left.is_empty else "Not all is done:")
        if not left.is_empty:
            _print_plan(left)
    if refused or not left.is_empty:
        raise typer.Exit(1)


@app.command(epilog="Example: orion-beam acls verify --bootstrap-servers broker:9092 --json")
def verify(
    bootstrap_servers: BootstrapServers,
    principals: Principals = None,
    countries: CountriesOption = None,
    group_id: WatchedGroup = OWN,
    publish: Publish = "",
    start_from: StartFrom = None,
    as_json: AsJson = False,
) -> None:
    """Check that the users of roles have the ACLs that they need, and no more. Meant for CI.

    Exit code 0 when they do, 1 with the differences otherwise.
    """
    found = plan_acls(bootstrap_servers, _wanted(principals, countries, group_id, publish, start_from))
    if as_json:
        typer.echo(json.dumps({"ok": found.is_empty, "plan": _plan_json(found)}, indent=2))
    elif found.is_empty:
        typer.echo("The users of the roles have what they need, and no more.")
    else:
        _print_plan(found)
    if not found.is_empty:
        raise typer.Exit(1)


def _wanted(
    principals: Sequence[str] | None, countries: str | None, group_id: str, publish: str, start_from: str | None
) -> "tuple[Acl, ...]":
    names = resource_names(
        parse_countries(countries),
        group_id,
        [parse_stage(name, "--publish") for name in parse_list(publish)],
        None if start_from is None else parse_stage(start_from, "--start-from"),
    )
    return wanted_acls(_users_of_roles(principals or ()), names)


def _users_of_roles(principals: Sequence[str]) -> dict[Role, list[str]]:
    """Return the users of each role.

    Raises:
        UserError: There is none, or one is not ROLE=USER.
    """
    users: dict[Role, list[str]] = {}
    for text in principals:
        role, _, user = text.partition("=")
        if role not in set(Role):
            raise UserError(f"--principal {text}: expected ROLE=USER with a role of {', '.join(Role)}")
        try:
            users.setdefault(Role(role), []).append(check_principal(user))
        except ValueError as error:
            raise UserError(f"--principal {text}: {error}") from None
    if not users:
        raise UserError("who has which role? give --principal ROLE=USER, or acls in orion.yaml")
    return users


def _plan_json(plan: "AclPlan") -> dict[str, Any]:
    return {
        "add": [acl._asdict() for acl in plan.missing],
        "too_much": [acl._asdict() for acl in plan.excess],
        "everybody": [acl._asdict() for acl in plan.everybody],
    }


def _print_plan(plan: "AclPlan") -> None:
    console = console_of(highlight=False, soft_wrap=True)
    for sign, style, acls in (("+", "green", plan.missing), ("-", "red", plan.excess), ("?", "", plan.everybody)):
        for acl in acls:
            console.print(Text.assemble("  ", (sign, style), f" {acl}"))
    console.print(f"Plan: {len(plan.missing)} to add, {len(plan.excess)} too much.")
