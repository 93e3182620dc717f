"""Lint of a workspace: every mistake in its files that shows without running anything."""

from collections.abc import Iterator
from pathlib import Path

from orion_beam.checks.lint_cases import case_folders, lint_cases
from orion_beam.checks.lint_countries import Profile, lint_countries
from orion_beam.checks.lint_finding import LintFinding, LintRule, finding_of_error
from orion_beam.checks.lint_formats import lint_formats
from orion_beam.checks.lint_job import lint_job
from orion_beam.checks.lint_stages import lint_stages
from orion_beam.countries import ProfileSource, all_profiles
from orion_beam.errors import UserError
from orion_beam.job_file.read import read_job
from orion_beam.text_files.toml_file import toml_files
from orion_beam.topics.catalogue import load_catalogue
from orion_beam.workspace import Workspace

__all__ = ["files_of", "lint_workspace"]


def lint_workspace(workspace: Workspace) -> list[LintFinding]:
    """Return all findings in the files of a workspace, by file and line."""
    profiles: list[Profile] = []
    findings = [
        *_job(workspace),
        *lint_countries(workspace, profiles),
        *lint_formats(workspace, profiles, case_folders(workspace)),
        *lint_cases(workspace, profiles),
    ]
    return sorted(findings, key=lambda found: (str(found.file), found.line, found.rule))


def files_of(workspace: Workspace) -> list[Path]:
    """Return the files that lint reads, in order."""
    patterns = (
        "reference/*",
        "countries/*.toml",
        "countries/*.csv",
        "formats/*.toml",
        "stages/*.py",
        "cases/*/*.txt",
        "cases/*/*.jsonl",
    )
    found = [workspace.job_file, workspace.topics]
    found += [path for pattern in patterns for path in workspace.root.glob(pattern)]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _job(workspace: Workspace) -> Iterator[LintFinding]:
    try:
        job = read_job(workspace)
    except UserError as error:
        yield finding_of_error(workspace.job_file, LintRule.JOB_FILE, error, "`orion-beam schema job` shows all keys")
        return
    own = {path.stem for path in toml_files(workspace.countries)}
    yield from lint_job(job, own | set(all_profiles(ProfileSource())))
    yield from _topics(workspace)
    yield from lint_stages(job)


def _topics(workspace: Workspace) -> Iterator[LintFinding]:
    if not workspace.topics.exists():
        return
    try:
        load_catalogue(workspace.topics)
    except UserError as error:
        fix = "see the page of topics as code, or remove the file to use the catalogue that ORION Beam ships"
        yield finding_of_error(workspace.topics, LintRule.TOPICS_FILE, error, fix)
