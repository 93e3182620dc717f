"""`orion-beam topics`: compare the topic catalogue with a cluster. Plan prints, apply changes, verify checks."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.given import refuse_unused
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import AsJson, BootstrapServers, parse_countries
from orion_beam.defaults import PRODUCTION
from orion_beam.durations import parse_duration_s
from orion_beam.errors import UserError

with late_imports():
    from orion_beam.topics.apply import apply_changes, await_effect
    from orion_beam.topics.catalogue import FOREVER_MS, Catalogue, load_catalogue
    from orion_beam.topics.cluster_state import describe_cluster
    from orion_beam.topics.plan import ChangeKind, Plan, TopicChange, plan_topics
    from orion_beam.topics.verify import problems_of

app = typer.Typer(help="Plan, apply and verify topics and their settings, from a catalogue.", no_args_is_help=True)

CatalogueFile = Annotated[
    Path | None,
    typer.Option(
        "--catalogue",
        help="YAML with changes to the shipped catalogue.",
        show_default="topics.yaml of the workspace, if there is one",
    ),
]
ProfileName = Annotated[str, typer.Option("--profile", help="Profile of the catalogue: development or production.")]
TopicCountries = Annotated[
    str | None, typer.Option(help="Countries whose raw topics belong to the cluster; all if not given: FR,TN")
]


@app.command(epilog="Example: orion-beam topics plan --bootstrap-servers broker:9092")
def plan(
    bootstrap_servers: BootstrapServers,
    catalogue: CatalogueFile = None,
    profile: ProfileName = PRODUCTION,
    countries: TopicCountries = None,
    as_json: AsJson = False,
) -> None:
    """Show the changes that would make the cluster match the catalogue. Changes nothing; the exit code is always 0.

    The signs are: + create, ~ change, ! dangerous change (may delete data or break an order), x to be done by hand,
    ? not in the catalogue and left alone.
    """
    found = plan_topics(bootstrap_servers, load_catalogue(catalogue), parse_countries(countries), profile)
    if as_json:
        typer.echo(json.dumps(_plan_json(found), indent=2))
    else:
        _print_plan(found)


@app.command(epilog="Example: orion-beam topics apply --bootstrap-servers broker:9092 --yes")
def apply(
    context: typer.Context,
    bootstrap_servers: BootstrapServers,
    catalogue: CatalogueFile = None,
    profile: ProfileName = PRODUCTION,
    countries: TopicCountries = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. Dangerous changes stay out.")] = False,
    allow_destructive: Annotated[
        bool, typer.Option("--allow-destructive", help="Make dangerous changes too, once each topic's name is typed.")
    ] = False,
    confirmed: Annotated[
        list[str] | None,
        typer.Option("--confirm", help="Topic whose dangerous changes you confirm here, not when asked; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the cluster match the catalogue. Asks first. Topics are never deleted.

    Exit code 0 when they match afterwards, 1 when something was refused, left out, or must be done by hand.
    """
    replan = partial(plan_topics, bootstrap_servers, load_catalogue(catalogue), parse_countries(countries), profile)
    if not allow_destructive:
        refuse_unused(context, ["confirmed"], "without --allow-destructive")
    wanted = replan()
    if not as_json:
        _print_plan(wanted)
    dangerous = _allowed(wanted.of(ChangeKind.DANGEROUS), allow_destructive, confirmed or ())
    changes = [*wanted.of(ChangeKind.CHANGE), *dangerous]
    refused: list[str] = []
    left = wanted
    if wanted.creates or changes:
        if not yes:
            typer.confirm(f"Create {len(wanted.creates)} and change {len(changes)}?", abort=True, err=True)
        refused = apply_changes(bootstrap_servers, wanted.creates, changes)
        # A refused change takes no effect, so there is nothing to wait for.
        left = replan() if refused else await_effect(replan, wanted.creates, changes)
    if as_json:
        typer.echo(json.dumps({"refused": refused, "left": _plan_json(left)}, indent=2))
    else:
        for line in refused:
            typer.echo(f"refused: {line}", err=True)
        typer.echo("The cluster agrees with the catalogue." if left.is_empty else "Not everything is done:")
        if not left.is_empty:
            _print_plan(left)
    if refused or not left.is_empty:
        raise typer.Exit(1)


@app.command(epilog="Example: orion-beam topics verify --bootstrap-servers broker:9092 --replay-window 7d")
def verify(
    bootstrap_servers: BootstrapServers,
    catalogue: CatalogueFile = None,
    profile: ProfileName = PRODUCTION,
    countries: TopicCountries = None,
    replay_window: Annotated[
        str | None,
        typer.Option(
            help="How far back a replay must be able to reach: 12h, 7d; if not given, the catalogue's raw retention."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that the cluster matches the catalogue, and that its topics fit together. Meant for CI.

    Exit code 0 when they match, 1 with the differences otherwise.
    """
    known, codes = load_catalogue(catalogue), parse_countries(countries)
    window_ms = _window_ms(replay_window, known)
    found = plan_topics(bootstrap_servers, known, codes, profile)
    cluster = describe_cluster(bootstrap_servers, [topic.name for topic in known.topics_of(codes, profile)])
    raw = [known.raw_topic(code).name for code in codes]
    problems = problems_of(cluster, raw, known.topics.final.name, known.topics.dead_letters.name, window_ms)
    is_good = found.is_empty and not problems
    if as_json:
        answer = {"ok": is_good, "plan": _plan_json(found), "problems": [asdict(problem) for problem in problems]}
        typer.echo(json.dumps(answer, indent=2))
    elif is_good:
        typer.echo("The cluster agrees with the catalogue.")
    else:
        _print_plan(found)
        for problem in problems:
            typer.echo(f"  {problem.topic}: {problem.what}")
    if not is_good:
        raise typer.Exit(1)


def _window_ms(replay_window: str | None, catalogue: Catalogue) -> int:
    if replay_window is None:
        return catalogue.topics.raw.retention_ms
    try:
        return FOREVER_MS if replay_window == "forever" else parse_duration_s(replay_window) * 1_000
    except ValueError as error:
        raise UserError(f"--replay-window {error}, or forever") from None


def _allowed(dangerous: Iterable[TopicChange], allow_destructive: bool, confirmed: Iterable[str]) -> list[TopicChange]:
    """Return the dangerous changes of topics whose names were typed; ask for names that were not."""
    if not allow_destructive:
        return []
    typed = set(confirmed)
    by_topic: dict[str, list[TopicChange]] = {}
    for change in dangerous:
        by_topic.setdefault(change.where, []).append(change)
    for topic in by_topic.keys() - typed:
        answer = typer.prompt(f"Type {topic} to make its dangerous changes", default="", show_default=False, err=True)
        typed.add(answer.strip())
    return [change for topic, changes in by_topic.items() if topic in typed for change in changes]


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "create": [asdict(topic) for topic in plan.creates],
        "change": [asdict(change) for change in plan.changes],
        "other_topics": plan.other_topics,
        "unmanaged_settings": [asdict(setting) for setting in plan.unmanaged],
        "warnings": [asdict(problem) for problem in plan.warnings],
    }


def _print_plan(plan: Plan) -> None:
    console = console_of(markup=True, highlight=False, soft_wrap=True)
    symbols = {
        ChangeKind.CHANGE: "[yellow]~[/]",
        ChangeKind.DANGEROUS: "[bold red]![/]",
        ChangeKind.BY_HAND: "[magenta]x[/]",
    }
    for topic in plan.creates:
        console.print(f"  [green]+[/] {topic.name}: {topic.partitions} partitions, replication {topic.replication}")
        for setting, value in topic.settings.items():
            console.print(f"      {setting} = {escape(value)}")
    for change in plan.changes:
        reason = f"  # {change.reason}" if change.reason else ""
        values = escape(f"{change.before} -> {change.after}{reason}")
        console.print(f"  {symbols[change.kind]} {change.where}: {change.setting} {values}")
    for own in plan.unmanaged:
        console.print(f"  ? {own.topic}: {own.setting} = {escape(own.value)}  # set, not in the catalogue")
    for name in plan.other_topics:
        console.print(f"  ? {name}  # not in the catalogue")
    for problem in plan.warnings:
        console.print(f"  [yellow]warning:[/] {problem.topic}: {escape(problem.what)}")
    dangerous, by_hand = len(plan.of(ChangeKind.DANGEROUS)), len(plan.of(ChangeKind.BY_HAND))
    console.print(
        f"Plan: {len(plan.creates)} to create, {len(plan.of(ChangeKind.CHANGE))} to change, {dangerous} dangerous,"
        f" {by_hand} by hand."
    )
