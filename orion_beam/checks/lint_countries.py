"""Lint of the country profiles of a workspace."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import ValidationError

from orion_beam.checks.lint_finding import (
    LintFinding,
    LintRule,
    finding_of_error,
    findings_of_model,
    line_at,
    toml_lines,
)
from orion_beam.countries import FORMATS, ProfileSource, all_profiles, with_formats
from orion_beam.defaults import SHIPPED_CATALOGUE
from orion_beam.errors import UserError
from orion_beam.generator.towns import read_towns
from orion_beam.schemas.country import CountryProfile, Town
from orion_beam.text_files.toml_file import parse_toml, toml_files
from orion_beam.topics.catalogue import Catalogue, load_catalogue
from orion_beam.transforms.decoders.registry import check_formats, formats_known_to, load_format
from orion_beam.transforms.rules.plausibility import example_numbers
from orion_beam.transforms.rules.rules import check_rules
from orion_beam.workspace import Workspace

__all__ = ["Profile", "lint_countries"]


class Profile(NamedTuple):
    """A country profile of the workspace and the lines of its fields."""

    file: Path
    profile: CountryProfile
    lines: Mapping[tuple[str | int, ...], int]

    def finding(self, where: tuple[str | int, ...], rule: LintRule, message: str, fix: str) -> LintFinding:
        """Return a finding at a field."""
        return LintFinding(self.file, line_at(where, self.lines), rule, message, fix)


def lint_countries(workspace: Workspace, valid: list[Profile]) -> Iterator[LintFinding]:
    """Yield the findings in the country profiles of a workspace; append the profiles that are valid to `valid`."""
    for path in toml_files(workspace.countries):
        yield from _read(path, valid)
    yield from _towns(workspace)
    own = {each.profile.code for each in valid}
    shipped = {code: profile for code, profile in all_profiles(ProfileSource()).items() if code not in own}
    known = [*((profile, f"shipped {code}") for code, profile in shipped.items())]
    catalogue = _catalogue()
    for each in valid:
        yield from _alone(each, catalogue)
        for other, name in known:
            yield from _together(each, other, name)
        known.append((each.profile, str(each.file.name)))


def _towns(workspace: Workspace) -> Iterator[LintFinding]:
    for path in sorted(workspace.countries.glob("*.csv")):
        code = path.name.removesuffix(".towns.csv")
        if code not in all_profiles():
            fix = "rename it to CODE.towns.csv, with the code of a country"
            yield LintFinding(path, 1, LintRule.TOWNS_FILE, f"there is no country {code}", fix)
        try:
            read_towns(path)
        except UserError as error:
            fix = f"write the columns {', '.join(Town.model_fields)}, as the page of country profiles explains"
            yield finding_of_error(path, LintRule.TOWNS_FILE, error, fix)


def _catalogue() -> Catalogue:
    """Return the topics without the prefix; the shipped ones if those of the workspace are not valid."""
    with suppress(UserError):
        return load_catalogue(prefix="")
    return Catalogue.model_validate(yaml.safe_load(SHIPPED_CATALOGUE.read_text(encoding="utf-8")))


def _read(path: Path, valid: list[Profile]) -> Iterator[LintFinding]:
    lines: dict[tuple[str | int, ...], int] = {}
    try:
        text, data = parse_toml(path)
        lines = toml_lines(text)
        profile = CountryProfile.model_validate(data)
        profile = _with_formats(profile, path)
    except ValidationError as error:
        yield from findings_of_model(path, LintRule.COUNTRY_FILE, CountryProfile, error, lines)
        return
    except (OSError, ValueError) as error:
        yield finding_of_error(path, LintRule.COUNTRY_FILE, error, "write it as TOML 1.0 in UTF-8")
        return
    found = Profile(path, profile, lines)
    declared = [each.stem for each in toml_files(path.parent.parent / FORMATS)]
    unknown = next((name for name in profile.formats if name not in formats_known_to(profile)), "")
    near = difflib.get_close_matches(unknown, [*declared, *formats_known_to(profile)], n=1)
    checks = {
        check_formats: f"write {near[0]}" if near else f"declare it in {FORMATS}/{unknown}.toml, or name one of these",
        check_rules: "`orion-beam rules` lists the rules",
    }
    broken = False
    for check, fix in checks.items():
        try:
            check(profile)
        except ValueError as error:
            field, _, message = str(error).partition(": ")
            yield found.finding(tuple(field.split(".", 1)), LintRule.COUNTRY_FILE, f"{field}: {message}", fix)
            broken = True
    if not broken:
        valid.append(found)


def _with_formats(profile: CountryProfile, path: Path) -> CountryProfile:
    """Return a profile with its declared formats. A broken format has a finding of its own, and is left out."""
    broken = []
    for name in profile.formats:
        with suppress(OSError):
            try:
                load_format(path.parent.parent / FORMATS / f"{name}.toml")
            except ValueError:
                broken.append(name)
    formats = tuple(name for name in profile.formats if name not in broken)
    return with_formats(profile.model_copy(update={"formats": formats}), path.parent.parent / FORMATS)


def _alone(each: Profile, catalogue: Catalogue) -> Iterator[LintFinding]:
    profile = each.profile
    for topic in catalogue.topics.named:
        if topic.name == profile.topic:
            message = f"topic: {topic.name} has another use in the topic catalogue"
            yield each.finding(("topic",), LintRule.TOPIC_TWICE, message, f"write cdr.raw.{profile.code}")
    if each.file.stem != profile.code:
        fix = f"rename it to {profile.code}.toml, or mend code"
        message = f"code: is {profile.code}, and the file is {each.file.name}"
        yield each.finding(("code",), LintRule.COUNTRY_FILE_NAME, message, fix)
    yield from _plan(each)
    counts = Counter(plmn for operator in profile.operators for plmn in operator.plmns)
    for place, operator in enumerate(profile.operators):
        where = ("operators", place, "plmns")
        for plmn in operator.plmns:
            if plmn[:3] not in profile.mccs:
                message = f"operators.{place}.plmns: {plmn} begins with none of the country's MCCs"
                yield each.finding(where, LintRule.PLMN, message, f"add {plmn[:3]} to mccs, or mend the PLMN")
            if counts[plmn] > 1:
                message = f"operators.{place}.plmns: {plmn} is there {counts[plmn]} times"
                yield each.finding(where, LintRule.PLMN, message, "leave it with one operator")


def _plan(each: Profile) -> Iterator[LintFinding]:
    """Compare the profile with the example numbers of libphonenumber, a mobile one first."""
    profile = each.profile
    examples = example_numbers(profile.code)
    if not examples:
        return
    if not any(number.startswith(f"+{profile.calling_code}") for number in examples):
        message = f"calling_code: {profile.calling_code} is not the calling code of {profile.code} (ITU-T E.164)"
        yield each.finding(("calling_code",), LintRule.NUMBERING_PLAN, message, "mend calling_code or code")
        return
    digits = len(examples[0]) - len("+") - len(profile.calling_code)
    if digits != profile.national_digits:
        message = f"national_digits: is {profile.national_digits}; example numbers of {profile.code} have {digits}"
        yield each.finding(("national_digits",), LintRule.NUMBERING_PLAN, message, f"write national_digits = {digits}")


def _together(each: Profile, other: CountryProfile, name: str) -> Iterator[LintFinding]:
    for mcc in sorted(set(each.profile.mccs) & set(other.mccs)):
        message = f"mccs: {mcc} is {other.name}'s as well ({name})"
        yield each.finding(("mccs",), LintRule.MCC_TWICE, message, "leave it with the country that ITU-T E.212 gives")
    if each.profile.code == other.code:
        message = f"code: {other.code} is defined by {name} as well"
        yield each.finding(("code",), LintRule.COUNTRY_FILE_NAME, message, "leave one of the two files")
    elif each.profile.topic == other.topic:
        message = f"topic: {other.topic} is {other.name}'s raw topic as well ({name})"
        yield each.finding(("topic",), LintRule.TOPIC_TWICE, message, f"write cdr.raw.{each.profile.code}")
