"""Lint of the golden cases of a workspace."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from orion_beam.capture.cases import CASES_FILE, INPUT_FILE
from orion_beam.checks.lint_countries import Profile
from orion_beam.checks.lint_finding import LintFinding, LintRule
from orion_beam.countries import ProfileSource, all_profiles
from orion_beam.text_files.toml_file import toml_files
from orion_beam.workspace import Workspace

__all__ = ["case_folders", "lint_cases"]


def case_folders(workspace: Workspace) -> dict[str, Path]:
    """Return the folders of golden cases by country code."""
    if not workspace.cases.is_dir():
        return {}
    return {path.name.upper(): path for path in sorted(workspace.cases.iterdir()) if _is_folder(path)}


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def lint_cases(workspace: Workspace, profiles: Sequence[Profile]) -> Iterator[LintFinding]:
    """Yield the findings in the folders of golden cases, given the valid profiles of the workspace."""
    folders = case_folders(workspace)
    known = {path.stem for path in toml_files(workspace.countries)} | set(all_profiles(ProfileSource()))
    known |= {each.profile.code for each in profiles}
    for path in sorted(workspace.cases.iterdir()) if folders else ():
        if _is_folder(path) and path != (used := folders[path.name.upper()]):
            fix = f"move its cases to {used.name}"
            yield LintFinding(path, 1, LintRule.CASES, f"{used.name} is a folder of the same country", fix)
    for code, folder in folders.items():
        if code not in known:
            fix = f"add countries/{code}.toml, or name the folder after a country: {', '.join(sorted(known))}"
            yield LintFinding(folder, 1, LintRule.CASES, f"there is no country {code}", fix)
        yield from _folder(folder)
    for each in profiles:
        if each.profile.code not in folders:
            fix = f"write {INPUT_FILE} and {CASES_FILE} in cases/{each.profile.code.lower()}, one record a line"
            message = f"{each.profile.code} has no golden cases"
            yield LintFinding(each.file, 1, LintRule.COUNTRY_WITHOUT_CASES, message, fix)


def _folder(folder: Path) -> Iterator[LintFinding]:
    texts = {}
    for name in (INPUT_FILE, CASES_FILE):
        try:
            texts[name] = (folder / name).read_bytes()
        except OSError as error:
            message = f"{error.strerror}"
            yield LintFinding(folder / name, 1, LintRule.CASES, message, "write one line for each case")
    if len(texts) < len((INPUT_FILE, CASES_FILE)):
        return
    records = texts[INPUT_FILE].removesuffix(b"\n").split(b"\n")
    names = texts[CASES_FILE].decode("utf-8", "replace").splitlines()
    path = folder / CASES_FILE
    if len(names) != len(records):
        message = f"has {len(names)} lines, and {INPUT_FILE} has {len(records)}"
        fix = "line N says what line N of input.txt shows"
        yield LintFinding(path, min(len(names), len(records)) + 1, LintRule.CASES, message, fix)
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if name in seen:
            message = f"line {seen[name]} has the same description"
            yield LintFinding(path, number, LintRule.CASES, message, "say what is particular to each case")
        seen.setdefault(name, number)
