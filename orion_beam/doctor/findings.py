"""What a check before a job is submitted has found: the rows of `orion-beam doctor`, and what `run` refuses by."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from orion_beam.errors import PrerequisiteError, UserError

_SENTENCE = re.compile(r"(?P<found>(?:[^(:]|\([^)]*\)|:(?! ))+): (?P<fix>.+)", re.DOTALL)
"""Errors of ours are `what is wrong: what to do`; a colon in parentheses, or within a word, ends nothing."""


class Status(StrEnum):
    """How a check went. Only FAILED makes `orion-beam doctor` end with exit code 1."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        status: how it went.
        found: what there is, for people; where it was looked at from, when that is not this machine.
        fix: what to do about it.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


def ok(name: str, found: str) -> Check:
    """Return a check that went well."""
    return Check(name, Status.OK, found)


def warning(name: str, found: str, fix: str) -> Check:
    """Return a check that found what a job can live with."""
    return Check(name, Status.WARNING, found, fix)


def failed(name: str, found: str, fix: str) -> Check:
    """Return a check that found what must be mended."""
    return Check(name, Status.FAILED, found, fix)


def skipped(name: str, why: str) -> Check:
    """Return a check that could not be made."""
    return Check(name, Status.SKIPPED, why)


def refused(name: str, error: UserError) -> Check:
    """Return a check that failed with an error of ours, whose text says what to do behind a colon."""
    sentence = _SENTENCE.fullmatch(str(error))
    return failed(name, sentence["found"], sentence["fix"]) if sentence else failed(name, str(error), "")


def require(checks: Iterable[Check]) -> None:
    """Refuse to go on at the first check that failed; the checks behind it are not made.

    Raises:
        PrerequisiteError: names what is wrong and the fix.
    """
    for check in checks:
        if check.status is Status.FAILED:
            raise PrerequisiteError(": ".join(part for part in (check.found, check.fix) if part))
