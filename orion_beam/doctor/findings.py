"""Findings of the checks before a job is submitted: `orion-beam doctor` shows them, `run` refuses to start by them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from orion_beam.errors import PrerequisiteError, UserError

_SENTENCE = re.compile(r"(?P<found>(?:[^(:]|\([^)]*\)|:(?! ))+): (?P<fix>.+)", re.DOTALL)
"""Our errors read `what is wrong: what to do`; a colon in parentheses or within a word does not separate the two."""


class Status(StrEnum):
    """Outcome of a check. Only FAILED makes `orion-beam doctor` end with exit code 1."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """Finding of one check.

    Attributes:
        name: What was checked.
        status: Outcome of the check.
        found: Finding for people; it names the place of the check when that is not this machine.
        fix: What to do about it.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


def ok(name: str, found: str) -> Check:
    """Return a check that went well."""
    return Check(name, Status.OK, found)


def warning(name: str, found: str, fix: str) -> Check:
    """Return a check that found something that a job can live with."""
    return Check(name, Status.WARNING, found, fix)


def failed(name: str, found: str, fix: str) -> Check:
    """Return a check that found something that must be fixed."""
    return Check(name, Status.FAILED, found, fix)


def skipped(name: str, why: str) -> Check:
    """Return a check that could not be made."""
    return Check(name, Status.SKIPPED, why)


def refused(name: str, error: UserError) -> Check:
    """Return a check that failed with an error of ours, in whose text the fix follows a colon."""
    sentence = _SENTENCE.fullmatch(str(error))
    return failed(name, sentence["found"], sentence["fix"]) if sentence else failed(name, str(error), "")


def require(checks: Iterable[Check]) -> None:
    """Refuse to go on at the first failed check; later checks are not made.

    Raises:
        PrerequisiteError: a check failed. The message names what is wrong and the fix.
    """
    for check in checks:
        if check.status is Status.FAILED:
            raise PrerequisiteError(": ".join(part for part in (check.found, check.fix) if part))
