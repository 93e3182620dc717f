"""`orion-beam lint`: the mistakes in the files of a workspace."""

import json
from pathlib import Path
from typing import Annotated

import typer

from orion_beam.cli.shared.given import local_path
from orion_beam.cli.shared.late import late_imports
from orion_beam.workspace import needed_workspace

with late_imports():
    from orion_beam.checks.lint import files_of, lint_workspace
    from orion_beam.checks.lint_finding import LintFinding
    from orion_beam.checks.results import lint_results, write_junit
    from orion_beam.text_files.text_file import shown_path


def lint(
    junit: Annotated[
        Path | None, typer.Option(callback=local_path, help="File for a JUnit report, which CI systems read.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Check the files of the workspace: job, topics, countries, formats, stages, reference data and cases.

    Each finding has file, line, rule and fix. Exit code 0: no findings; 1: findings; 2: there is no workspace.

    Example: orion-beam lint --junit lint.xml
    """
    workspace = needed_workspace()
    findings = lint_workspace(workspace)
    files = files_of(workspace)
    if junit is not None:
        write_junit(junit, lint_results(files, findings))
    if as_json:
        typer.echo(json.dumps([found._asdict() | {"file": shown_path(found.file)} for found in findings], indent=2))
    else:
        print_findings(findings)
        typer.echo(f"{len(files)} files, {len(findings)} finding{'s' * (len(findings) != 1)}")
    if findings:
        raise typer.Exit(1)


def print_findings(findings: list[LintFinding]) -> None:
    """Print a line for each finding, as compilers do, and the fix below it."""
    for found in findings:
        typer.echo(f"{shown_path(found.file)}:{found.line}: {found.rule}: {found.message}\n    fix: {found.fix}")
