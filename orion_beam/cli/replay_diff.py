"""`orion-beam replay diff`: compare two versions of rules, data or code over the same retained records."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import orion_beam
from orion_beam.cli.replay import asked_for, countries_of
from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.given import given_options
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import (
    CountriesOption,
    DuplicateWindow,
    FlagDuplicatesOption,
    TagPartialsOption,
    absolute,
    refuse_unused_checks,
)
from orion_beam.defaults import CELLS, DUPLICATE_WINDOW, SUBSCRIBERS
from orion_beam.errors import JobFailedError, UserError
from orion_beam.job_file.environment import PREFIX_VARIABLE, topic_prefix
from orion_beam.workspace import JOB_FILE, WORKSPACE_VARIABLE, find_workspace

with late_imports():
    from orion_beam.chain import load_reference
    from orion_beam.countries import profiles_of
    from orion_beam.replay.compare import Comparison, compare_replays
    from orion_beam.replay.plan import PartitionPlan


@dataclass(frozen=True)
class _Version:
    """One of the two versions: its code, profiles and reference data."""

    name: str
    installed: Path | None
    profiles: Path | None
    cells: str
    subscribers: str
    workspace: Path | None

    def interpreter(self) -> tuple[str, dict[str, str]]:
        """Return the Python that runs this version, and environment variables that say where its modules are.

        Raises:
            UserError: there is no installed version at the path.
        """
        if self.installed is None:
            return sys.executable, {"PYTHONPATH": str(Path(orion_beam.__file__).parents[1])}
        if (python := self.installed / "bin" / "python").is_file():
            return str(python.absolute()), {"PYTHONPATH": ""}
        if (self.installed / "orion_beam").is_dir():
            return sys.executable, {"PYTHONPATH": str(self.installed.absolute())}
        raise UserError(
            f"--{self.name}-version {self.installed}: neither a virtual environment (bin/python) nor a checkout"
        )

    def options(self) -> list[str]:
        """Return the version's options without those that have default values, so that it uses its own defaults."""
        chosen = (
            ("--profiles", str(self.profiles), str(None)),
            ("--cells", self.cells, CELLS),
            ("--subscribers", self.subscribers, SUBSCRIBERS),
        )
        return [part for option, value, usual in chosen if value != usual for part in (option, value)]


def diff(
    context: typer.Context,
    bootstrap_servers: Annotated[str, typer.Option(help="Kafka brokers, host:port,…")],
    countries: CountriesOption = None,
    start: Annotated[
        str | None, typer.Option("--from", help="First Kafka timestamp, with its zone: 2026-01-01T00:00Z")
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", help="Kafka timestamp to stop before, with its zone.", show_default="all there is now"),
    ] = None,
    last: Annotated[str | None, typer.Option(help="Instead of --from: start so long before now: 90s, 30m, 6h")] = None,
    offsets: Annotated[
        str | None, typer.Option(help="Instead of times: COUNTRY:PARTITION=FIRST-END,… without END: FR:0=100-2000")
    ] = None,
    old_version: Annotated[
        Path | None, typer.Option(help="Virtual environment or checkout of the old code.", show_default="this one")
    ] = None,
    new_version: Annotated[
        Path | None, typer.Option(help="Virtual environment or checkout of the new code.", show_default="this one")
    ] = None,
    old_profiles: Annotated[
        Path | None, typer.Option(help="The old country profiles, a directory.", show_default="as for `replay`")
    ] = None,
    new_profiles: Annotated[
        Path | None, typer.Option(help="The new country profiles.", show_default="as for `replay`")
    ] = None,
    old_cells: Annotated[str, typer.Option(help="The old cells.")] = CELLS,
    new_cells: Annotated[str, typer.Option(help="The new cells.")] = CELLS,
    old_subscribers: Annotated[str, typer.Option(help="The old subscribers.")] = SUBSCRIBERS,
    new_subscribers: Annotated[str, typer.Option(help="The new subscribers.")] = SUBSCRIBERS,
    tag_partials: TagPartialsOption = False,
    flag_duplicates: FlagDuplicatesOption = False,
    duplicate_window: DuplicateWindow = DUPLICATE_WINDOW,
    old_workspace: Annotated[
        Path | None, typer.Option(help="The old workspace: stages, countries…", show_default="the one in use")
    ] = None,
    new_workspace: Annotated[
        Path | None, typer.Option(help="The new workspace.", show_default="the one in use")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, max=100, help="Records to show as examples of each difference.")] = 3,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Python processes of each version.")] = 2,
    allow_truncated: Annotated[
        bool, typer.Option("--allow-truncated", help="Go on although the start of the range is deleted.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run the same retained records through two versions, and show how the results differ. Sends nothing.

    --new-workspace compares stages of your own and whatever else a workspace declares, --new-profiles rules and
    profiles, --new-cells and --new-subscribers reference data, --old-version or --new-version code. Exit code 1 when
    there are differences.

    Example: orion-beam replay diff --bootstrap-servers localhost:9092 --countries FR --last 1h --new-profiles profiles
    """
    old = _Version(
        "old",
        old_version,
        old_profiles and old_profiles.absolute(),
        absolute(old_cells),
        absolute(old_subscribers),
        _root_of(old_workspace, "--old-workspace"),
    )
    new = _Version(
        "new",
        new_version,
        new_profiles and new_profiles.absolute(),
        absolute(new_cells),
        absolute(new_subscribers),
        _root_of(new_workspace, "--new-workspace"),
    )
    if (old.installed, old.workspace, *old.options()) == (new.installed, new.workspace, *new.options()):
        raise UserError(
            "old and new are the same: give --new-workspace, --new-profiles, --new-cells, --new-subscribers or"
            " --new-version"
        )
    refuse_unused_checks(context, flag_duplicates)
    checks = []
    # What is not given here, each version takes from its workspace.
    given = given_options(context)
    if "tag_partials" in given:
        checks.append("--tag-partials" if tag_partials else "--no-tag-partials")
    if "flag_duplicates" in given:
        checks.append("--flag-duplicates" if flag_duplicates else "--no-flag-duplicates")
    if "duplicate_window" in given:
        checks += ["--duplicate-window", str(duplicate_window)]
    for version in (old, new):
        version.interpreter()
        load_reference(version.cells, version.subscribers)
    asked = asked_for(start, end, last, offsets)
    codes = countries_of(asked, countries, old_profiles)
    profiles_of(codes, new_profiles)
    topics = profiles_of(codes, old_profiles)
    # Both versions read the same offsets, whatever arrives meanwhile.
    plans = asked.plan(bootstrap_servers, topics.values())
    if (truncated := [plan for plan in plans if plan.is_truncated]) and not allow_truncated:
        raise UserError(f"{truncated[0].truncation}; --allow-truncated goes on with what is left")
    country_of = {profile.topic: code for code, profile in topics.items()}
    ranges = ",".join(_range_of(plan, country_of) for plan in plans if plan.offsets)
    if not ranges:
        raise UserError("there are no records to compare")
    with tempfile.TemporaryDirectory(prefix="orion-diff-") as directory:
        for version in (old, new):
            source = ["--bootstrap-servers", bootstrap_servers, "--offsets", ranges]
            _replay(version, Path(directory), [*source, *checks], workers)
        comparison = compare_replays(Path(directory, "old"), Path(directory, "new"), samples)
    if as_json:
        typer.echo(json.dumps(_as_json(comparison)))
    else:
        _show(comparison)
    if not comparison.is_equal:
        raise typer.Exit(1)


def _root_of(workspace: Path | None, option: str) -> Path | None:
    """Return the directory of a workspace that an option names, or of the one in use; None without one."""
    if workspace is not None and not (workspace / JOB_FILE).is_file():
        raise UserError(f"{option} {workspace}: there is no {JOB_FILE}")
    found = find_workspace()
    return workspace.absolute() if workspace is not None else None if found is None else found.root


def _range_of(plan: PartitionPlan, country_of: dict[str, str]) -> str:
    return f"{country_of[plan.topic]}:{plan.partition}={plan.low}-{plan.high}"


def _replay(version: _Version, directory: Path, options: Sequence[str], workers: int) -> None:
    python, modules = version.interpreter()
    command = [python, "-m", "orion_beam.cli.main", "replay", *options, *version.options(), "--workers", str(workers)]
    command += ["--output", str(directory / version.name), "--format", "parquet", "--run-id", version.name, "--json"]
    # ORION_HOME is the temporary directory: plan and progress are deleted with the files, as nothing can be resumed.
    done = subprocess.run(
        command,
        env=os.environ
        | modules
        # Both read the topics of which the offsets are, whatever their workspaces say.
        | {"ORION_HOME": str(directory), PREFIX_VARIABLE: topic_prefix()}
        # The command runs in another directory than this one, so it does not find the workspace by itself.
        | ({} if version.workspace is None else {WORKSPACE_VARIABLE: str(version.workspace)}),
        # Not the user's directory, in which `-m` would look for the modules first.
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        says = (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("orion-beam: error: ")
        kind = UserError if done.returncode == 2 else JobFailedError
        raise kind(f"the {version.name} version: {says}")


def _as_json(comparison: Comparison) -> dict[str, object]:
    return {
        "records": comparison.records,
        "unmatched": comparison.unmatched,
        "differences": [
            difference._asdict()
            | {"records": records, "samples": [sample._asdict() for sample in comparison.samples[difference]]}
            for difference, records in comparison.counts.most_common()
        ],
    }


def _show(comparison: Comparison) -> None:
    console = console_of()
    if comparison.is_equal:
        console.print(f"{comparison.records:,} records, no difference", highlight=False)
        return
    table = Table("difference", "country", "field or rule", title=f"{comparison.records:,} records, old against new")
    table.add_column("records", justify="right")
    for name in ("for instance", "old", "new"):
        table.add_column(name)
    for difference, records in sorted(comparison.counts.items()):
        samples = comparison.samples[difference]
        first = (difference.kind.replace("_", " "), difference.country, difference.what, f"{records:,}")
        for place, sample in enumerate(samples or [None]):
            table.add_row(*(first if place == 0 else ("",) * 4), *(sample or ("",) * 3))
    console.print(table)
    if comparison.unmatched:
        console.print(f"{comparison.unmatched:,} records are in only one of the two", style="red", highlight=False)
