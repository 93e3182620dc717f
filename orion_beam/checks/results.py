"""Results of checks, and their report in JUnit's form, which CI systems read."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from orion_beam.checks.lint_finding import LintFinding
from orion_beam.errors import UserError
from orion_beam.text_files.text_file import shown_path

__all__ = ["CheckResult", "CheckState", "lint_results", "sums_of", "write_junit"]


class CheckState(StrEnum):
    """State of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class CheckResult(NamedTuple):
    """Result of one check.

    Attributes:
        suite: `lint`, `golden`, `conformance` or `stages`.
        name: The file, case, mutation or test.
        state: Whether it passed.
        problems: What is wrong, or why it was skipped; a line each. They hold no subscriber's number.
        file: The file that a mistake is in.
        line: Line of the mistake in the file.
    """

    suite: str
    name: str
    state: CheckState
    problems: tuple[str, ...] = ()
    file: str | None = None
    line: int | None = None


def lint_results(files: Iterable[Path], findings: Sequence[LintFinding]) -> list[CheckResult]:
    """Return a result for each file without findings, and one for each finding."""
    faulty = {found.file for found in findings}
    clean = [CheckResult("lint", shown_path(path), CheckState.PASSED) for path in files if path not in faulty]
    return clean + [
        CheckResult(
            "lint",
            f"{shown_path(found.file)}:{found.line} {found.rule}",
            CheckState.FAILED,
            (f"{found.message}; {found.fix}",),
            shown_path(found.file),
            found.line,
        )
        for found in findings
    ]


def sums_of(results: Iterable[CheckResult]) -> dict[str, int]:
    """Return the number of results by state, for every state."""
    counts = Counter(result.state for result in results)
    return {state.value: counts[state] for state in CheckState}


_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: Path, results: Sequence[CheckResult]) -> None:
    """Write results as a JUnit report: a test suite for each kind of check.

    Raises:
        UserError: The file cannot be written.
    """
    root = ElementTree.Element("testsuites", name="orion-beam")
    for suite in dict.fromkeys(result.suite for result in results):
        of_suite = [result for result in results if result.suite == suite]
        sums = sums_of(of_suite)
        counts = {"tests": len(of_suite), "failures": sums["failed"], "errors": 0, "skipped": sums["skipped"]}
        element = ElementTree.SubElement(root, "testsuite", {"name": suite, **_attributes(counts)})
        for result in of_suite:
            place = {"name": result.name, "file": result.file, "line": result.line}
            case = ElementTree.SubElement(
                element, "testcase", {"classname": f"orion-beam.{suite}", **_attributes(place)}
            )
            if result.state is not CheckState.PASSED:
                kind = "failure" if result.state is CheckState.FAILED else "skipped"
                message = _clean(result.problems[0]) if result.problems else ""
                ElementTree.SubElement(case, kind, message=message).text = _clean("\n".join(result.problems))
    ElementTree.indent(root)
    try:
        ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise UserError(f"--junit {path}: {error.strerror}") from None


def _attributes(values: Mapping[str, object]) -> dict[str, str]:
    return {name: _clean(str(value)) for name, value in values.items() if value is not None}


def _clean(text: str) -> str:
    """Replace the characters that XML 1.0 does not have."""
    return _NOT_IN_XML.sub("\ufffd", text)
