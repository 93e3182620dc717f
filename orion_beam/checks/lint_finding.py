"""What lint finds: a mistake in a file of the workspace, with its place, its rule and its fix."""

import difflib
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from orion_beam.text_files.text_file import KeyPath, why_unreadable
from orion_beam.text_files.toml_file import toml_lines

__all__ = ["LintFinding", "LintRule", "finding_of_error", "findings_of_model", "line_at", "toml_lines"]


class LintRule(StrEnum):
    """Rules of lint. The value is the rule's id."""

    JOB_FILE = "job-file"
    TOPICS_FILE = "topics-file"
    REFERENCE_DATA = "reference-data"
    COUNTRY_FILE = "country-file"
    COUNTRY_FILE_NAME = "country-file-name"
    TOWNS_FILE = "towns-file"
    NUMBERING_PLAN = "numbering-plan"
    MCC_TWICE = "mcc-twice"
    PLMN = "plmn"
    TOPIC_TWICE = "topic-twice"
    FORMAT_FILE = "format-file"
    FORMAT_UNUSED = "format-unused"
    FORMATS_OVERLAP = "formats-overlap"
    STAGE = "stage"
    STAGE_UNUSED = "stage-unused"
    CASES = "cases"
    COUNTRY_WITHOUT_CASES = "country-without-cases"

    @property
    def meaning(self) -> str:
        """What the rule asks for, in one line."""
        return _MEANINGS[self]


_MEANINGS: Mapping[LintRule, str] = {
    LintRule.JOB_FILE: "orion.yaml is a valid job",
    LintRule.TOPICS_FILE: "topics.yaml is a valid topic catalogue",
    LintRule.REFERENCE_DATA: "the job's cells and subscribers can be loaded",
    LintRule.COUNTRY_FILE: "a country profile is valid TOML, and each field keeps its rule",
    LintRule.COUNTRY_FILE_NAME: "the profile of a country is the file CODE.toml",
    LintRule.TOWNS_FILE: "the towns of a country are in CODE.towns.csv, and each column keeps its rule",
    LintRule.NUMBERING_PLAN: "calling code and number length fit the example numbers of the country's numbering plan",
    LintRule.MCC_TWICE: "a mobile country code belongs to one country",
    LintRule.PLMN: "a PLMN begins with an MCC of its country, and belongs to one operator",
    LintRule.TOPIC_TWICE: "a topic has one use: two countries, or a country and a stage, do not share it",
    LintRule.FORMAT_FILE: "a declared format is valid TOML, and each field keeps its rule",
    LintRule.FORMAT_UNUSED: "a country names each file of formats/",
    LintRule.FORMATS_OVERLAP: "one format of a country, and no other, reads each golden case",
    LintRule.STAGE: "a stage that orion.yaml declares can be imported, and takes its options",
    LintRule.STAGE_UNUSED: "orion.yaml declares every file of stages/ but tests",
    LintRule.CASES: "a folder of golden cases is that of a country, and cases.txt describes each line of input.txt",
    LintRule.COUNTRY_WITHOUT_CASES: "a country of the workspace has golden cases",
}


class LintFinding(NamedTuple):
    """A mistake in a file.

    Attributes:
        file: The file or directory.
        line: Line of the mistake, from 1.
        rule: The rule that is broken.
        message: What is wrong. It holds no subscriber's number.
        fix: What to do about it.
    """

    file: Path
    line: int
    rule: LintRule
    message: str
    fix: str


_PLACE = re.compile(r"^.*?\.(?:yaml|toml|py|csv):(\d+): ")
_FORMAT_LINE = re.compile(r"^line (\d+): ")
_TOML_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")


def finding_of_error(
    file: Path, rule: LintRule, error: Exception, fix: str, lines: Mapping[KeyPath, int] | None = None
) -> LintFinding:
    """Return the finding of an error that reading a file raised.

    The line is that of the message, or else the line of the field that the message begins with.
    """
    message = " ".join(str(error).split()).replace("Value error, ", "")
    if isinstance(error, OSError | UnicodeDecodeError):
        message = why_unreadable(error)
    if place := _PLACE.match(message):
        return LintFinding(file, int(place[1]), rule, message[place.end() :], fix)
    if place := _FORMAT_LINE.match(message):
        return LintFinding(file, int(place[1]), rule, message[place.end() :], fix)
    if place := _TOML_LINE.search(message):
        return LintFinding(file, int(place[1] or 1), rule, message.replace(place[0], ""), fix)
    for prefix in (f"{file}: ", f"country profile {file}: "):
        message = message.removeprefix(prefix)
    where = tuple(int(part) if part.isdecimal() else part for part in message.partition(": ")[0].split("."))
    return LintFinding(file, line_at(where, lines or {}), rule, message, fix)


def findings_of_model(
    file: Path, rule: LintRule, model: type[BaseModel], error: ValidationError, lines: Mapping[KeyPath, int]
) -> Iterator[LintFinding]:
    """Yield a finding for each problem that a model has with a file's content."""
    for problem in error.errors(include_url=False, include_input=False):
        where: KeyPath = tuple(part for part in problem["loc"])
        field = ".".join(map(str, where))
        if problem["type"] == "extra_forbidden":
            name = str(where[-1])
            yield LintFinding(
                file, line_at(where, lines), rule, f"{field}: there is no such field", _nearest(name, model)
            )
        elif problem["type"] == "missing":
            yield LintFinding(file, line_at(where, lines), rule, f"{field}: is required", f"add {where[-1]}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            yield LintFinding(file, line_at(where, lines), rule, f"{field}: {message}" if field else message, "mend it")


def _nearest(name: str, model: type[BaseModel]) -> str:
    near = difflib.get_close_matches(name, model.model_fields, n=1)
    return f"write {near[0]}" if near else f"remove it; known are {', '.join(model.model_fields)}"


def line_at(where: KeyPath, lines: Mapping[KeyPath, int]) -> int:
    """Return the line of a field; of the nearest field around it if the file does not have it."""
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where, 1)
