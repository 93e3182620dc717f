"""`orion-beam test`: all checks of a workspace."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.given import local_path
from orion_beam.cli.shared.late import late_imports
from orion_beam.errors import JobFailedError, UserError
from orion_beam.telemetry.masking import mask_line, printable
from orion_beam.workspace import Workspace, needed_workspace

with late_imports():
    from orion_beam.checks.conformance_results import check_conformance
    from orion_beam.checks.golden import check_golden
    from orion_beam.checks.job import files_job, stages_in
    from orion_beam.checks.lint import files_of, lint_workspace
    from orion_beam.checks.lint_cases import case_folders
    from orion_beam.checks.results import CheckResult, CheckState, lint_results, sums_of, write_junit
    from orion_beam.checks.stage_tests import run_stage_tests
    from orion_beam.countries import profiles_of
    from orion_beam.text_files.toml_file import toml_files
    from orion_beam.transforms.stage import split
    from orion_beam.transforms.stage.split import StageFailedError


def run_tests(
    update: Annotated[
        bool, typer.Option("--update", help="Rewrite the expected outputs of golden cases; show what changes.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(callback=local_path, help="File for a JUnit report, which CI systems read.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results as JSON.")] = False,
) -> None:
    """Test the workspace: lint, golden cases, conformance of its countries, and its stages' tests.

    Exit code 0: all passed; 1: something failed; 2: there is no workspace.

    Example: orion-beam test --junit test.xml
    """
    workspace = needed_workspace()
    began = time.monotonic()
    results: list[CheckResult] = []
    with _first_of_each_exception():
        for what, found in _parts(workspace, update=update):
            results += found
            if not as_json:
                _print(what, found)
    sums, seconds = sums_of(results), time.monotonic() - began
    if junit is not None:
        write_junit(junit, results)
    if as_json:
        typer.echo(
            json.dumps(
                {**sums, "seconds": round(seconds, 1), "results": [each._asdict() for each in results]}, indent=2
            )
        )
    else:
        typer.echo(", ".join(f"{number} {state}" for state, number in sums.items()) + f" in {seconds:.1f} s")
    if sums[CheckState.FAILED]:
        raise typer.Exit(1)


@contextmanager
def _first_of_each_exception() -> Iterator[None]:
    """Log each exception of a stage once: mutated cases repeat it by the hundred."""
    seen: set[object] = set()

    def is_first(record: logging.LogRecord) -> bool:
        # The arguments are stage, exception, and the place of the record.
        key = record.args[:2] if isinstance(record.args, tuple) else record.getMessage()
        is_new = key not in seen
        seen.add(key)
        return is_new

    logger = logging.getLogger(split.__name__)
    logger.addFilter(is_first)
    try:
        yield
    finally:
        logger.removeFilter(is_first)


def _parts(workspace: Workspace, *, update: bool) -> Iterator[tuple[str, list[CheckResult]]]:
    """Yield each part of the test when it is done: its name and its results."""
    status = console_of(stderr=True).status
    with status("lint"):
        findings = lint_workspace(workspace)
        linted = lint_results(files_of(workspace), findings)
    yield "lint", linted
    folders = case_folders(workspace)
    for code in list(folders):
        try:
            profiles_of([code])
        except UserError as error:
            # One broken profile does not stop the checks of other countries.
            del folders[code]
            yield f"golden {code}", [_not_run("golden", error)]
    if folders:
        with status(f"golden cases of {', '.join(folders)}"):
            try:
                golden = check_golden(folders, partial(files_job, workspace), update=update)
            except (UserError, JobFailedError, StageFailedError) as error:
                golden = {"": [_not_run("golden", error)]}
        for code, found in golden.items():
            yield f"golden {code}".rstrip(), found
    for path in toml_files(workspace.countries):
        if (code := path.stem) in folders:
            with status(f"conformance of {code}"):
                try:
                    conformance = check_conformance(profiles_of([code])[code], folders[code], stages_in(workspace))
                except (UserError, JobFailedError, StageFailedError) as error:
                    conformance = [_not_run("conformance", error)]
            yield f"conformance {code}", conformance
    with status("tests of stages"):
        tests = run_stage_tests(workspace)
    if tests:
        yield "stages", tests


def _not_run(suite: str, error: Exception) -> CheckResult:
    return CheckResult(suite, "not run", CheckState.FAILED, (" ".join(str(error).split()),))


_SHOWN_LINES = 12


def _print(what: str, results: list[CheckResult]) -> None:
    sums = sums_of(results)
    typer.echo(f"{what}: " + ", ".join(f"{number} {state}" for state, number in sums.items() if number))
    told = set()
    for result in results:
        if not result.problems or (result.state is CheckState.SKIPPED and result.problems in told):
            continue
        told.add(result.problems)
        state = "changed" if result.state is CheckState.PASSED else result.state
        # Descriptions of cases are texts of the user's.
        for line in (f"  {state} {result.name}", *(f"    {each}" for each in result.problems[:_SHOWN_LINES])):
            typer.echo(printable(mask_line(line)))
        if len(result.problems) > _SHOWN_LINES:
            typer.echo(f"    … and {len(result.problems) - _SHOWN_LINES} lines more")
