"""The country profiles. A TOML file defines a country: shipped in `orion_beam/profiles`, or the workspace's own."""

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from orion_beam.defaults import PROFILES_DIRECTORY
from orion_beam.errors import UserError
from orion_beam.job_file.environment import topic_prefix
from orion_beam.job_file.read import Job, find_job
from orion_beam.schemas.codes import Severity
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.raw_formats.declaration import FormatDeclaration
from orion_beam.telemetry.logs import say
from orion_beam.text_files.toml_file import read_toml, toml_files
from orion_beam.transforms.decoders.registry import check_formats, load_format
from orion_beam.transforms.rules.rules import check_rule, check_rules

__all__ = [
    "FORMATS",
    "ProfileSource",
    "all_profiles",
    "complete_profiles",
    "default_profiles",
    "load_profile",
    "profile_source",
    "profiles_of",
    "with_formats",
]

FORMATS = "formats"
"""Name of the directory of declared formats, beside the directory of the profiles."""


def load_profile(path: Path) -> CountryProfile:
    """Read and check one profile. Its declared formats are read from `../formats/NAME.toml`.

    Raises:
        UserError: The file or that of a declared format is not TOML, a field breaks its rule, or a format or rule is
            unknown. The message names file, line and field.
    """
    source = read_toml(path)
    profile = source.checked(CountryProfile)
    try:
        profile = with_formats(profile, path.absolute().parent.parent / FORMATS)
        check_formats(profile)
        check_rules(profile)
        return profile
    except ValueError as error:
        field, _, message = str(error).partition(": ")
        raise source.error(tuple(field.split(".")), message) from None


def with_formats(profile: CountryProfile, directory: Path) -> CountryProfile:
    """Return a profile with the declarations of its formats that are in a directory.

    Raises:
        UserError: A declaration breaks a rule. The message names file, line and field.
        ValueError: The profile declares formats itself.
    """
    if profile.declared_formats:
        raise ValueError(f"declared_formats: cannot be set; declare a format in {FORMATS}/NAME.toml")
    found = [directory / f"{name}.toml" for name in profile.formats]
    declared = tuple(_declaration(path) for path in found if path.is_file())
    return profile.model_copy(update={"declared_formats": declared}) if declared else profile


def _declaration(path: Path) -> FormatDeclaration:
    try:
        return load_format(path)
    except (OSError, ValueError) as error:
        raise UserError(f"format {path}: {error}") from None


class ProfileSource(BaseModel):
    """Where country profiles come from, so that a job that is stored finds the same ones again.

    Attributes:
        directories: Directories of files CODE.toml, or single such files. A country of a later one replaces that of an
            earlier one.
        rules: Severities of rules, by country code; they replace those of the profile.
        topic_prefix: Text before the raw topic that a profile names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    directories: tuple[Path, ...] = (PROFILES_DIRECTORY,)
    rules: tuple[tuple[str, tuple[tuple[str, Severity], ...]], ...] = ()
    topic_prefix: str = ""


def profile_source(profiles: Path | None = None) -> ProfileSource:
    """Return where a command's country profiles come from.

    Args:
        profiles: A directory of profiles, or one profile, that the user names. None: the shipped profiles and, over
            them, those of the workspace.

    Raises:
        UserError: The workspace cannot be found, or its job file is broken or names a rule that does not exist.
    """
    job = find_job()
    if profiles is not None:
        directories: tuple[Path, ...] = (profiles.absolute(),)
    elif job is None:
        directories = (PROFILES_DIRECTORY,)
    else:
        directories = (PROFILES_DIRECTORY, job.workspace.countries)
    rules = () if job is None else _rules_of(job)
    return ProfileSource(directories=directories, rules=rules, topic_prefix=topic_prefix())


def _rules_of(job: Job) -> tuple[tuple[str, tuple[tuple[str, Severity], ...]], ...]:
    for country, severities in job.settings.rules.items():
        for name in severities:
            try:
                check_rule(name)
            except ValueError as error:
                raise job.source.error(("rules", country, name), str(error)) from None
    return tuple((country, tuple(severities.items())) for country, severities in job.settings.rules.items())


class _Loaded(NamedTuple):
    """The valid profiles by country code, and the errors of the invalid ones, by code or else by file name."""

    profiles: Mapping[str, CountryProfile]
    errors: Mapping[str, UserError]
    default_codes: frozenset[str]


def _files_of(source: ProfileSource) -> tuple[tuple[Path, int], ...]:
    """Return the files of profiles, in order, and when each was changed."""
    listed = ([directory] if directory.is_file() else toml_files(directory) for directory in source.directories)
    return tuple((path, _changed_ns(path)) for paths in listed for path in paths)


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        # A broken link: reading it says so, and names its country.
        return 0


@cache
def _load(source: ProfileSource, files: tuple[tuple[Path, int], ...]) -> _Loaded:
    profiles: dict[str, CountryProfile] = {}
    errors: dict[str, UserError] = {}
    default_codes: set[str] = set()
    seen: dict[tuple[Path, str], Path] = {}
    for path, _ in files:
        code = path.stem
        try:
            profile = load_profile(path)
            code = profile.code
            if (other := seen.setdefault((path.parent, code), path)) != path:
                raise UserError(f"{path}: code: {code} is also that of {other}; keep one of the two files")
            topic = f"{source.topic_prefix}{profile.topic}"
            profiles[profile.code] = profile.model_copy(update={"topic": topic})
            errors.pop(path.stem, None)
            if profile.is_default or path.parent != PROFILES_DIRECTORY:
                default_codes.add(profile.code)
        except UserError as error:
            # A broken profile does not leave the one that it should replace in use.
            profiles.pop(code, None)
            errors[code] = error
    if not profiles:
        raise next(iter(errors.values()), UserError(f"{source.directories[-1]} holds no country profile (CODE.toml)"))
    for country, severities in source.rules:
        if country in profiles:
            rules = dict(profiles[country].rules) | dict(severities)
            profiles[country] = profiles[country].model_copy(update={"rules": tuple(rules.items())})
    return _Loaded(dict(sorted(profiles.items())), errors, frozenset(default_codes))


def _source_of(profiles: Path | ProfileSource | None) -> ProfileSource:
    return profiles if isinstance(profiles, ProfileSource) else profile_source(profiles)


def all_profiles(profiles: Path | ProfileSource | None = None) -> Mapping[str, CountryProfile]:
    """Return every valid profile, by country code.

    An invalid profile is skipped with one warning, so that it does not stop work for other countries.

    Args:
        profiles: Where they come from; see `profile_source`.

    Raises:
        UserError: There is no profile, or all are invalid. Also as `profile_source`.
    """
    source = _source_of(profiles)
    return _with_warnings(source, _files_of(source))


@cache
def _with_warnings(source: ProfileSource, files: tuple[tuple[Path, int], ...]) -> Mapping[str, CountryProfile]:
    loaded = _load(source, files)
    for error in loaded.errors.values():
        say(f"warning: {error}; it is left out, and its operators are not known to others", logging.WARNING)
    return loaded.profiles


def default_profiles(profiles: Path | ProfileSource | None = None) -> Mapping[str, CountryProfile]:
    """Return the profiles of the default countries, by country code. They apply if the user names no country.

    The shipped profiles mark the default countries with `is_default`. Of any other directory all countries are default.

    Raises:
        UserError: A profile is invalid. Its country may be a default one.
    """
    source = _source_of(profiles)
    loaded = _load(source, _files_of(source))
    meant = {code: profile for code, profile in loaded.profiles.items() if code in loaded.default_codes}
    for error in loaded.errors.values():
        raise UserError(f"{error}; mend it, or name the countries without it: --countries {','.join(meant)}")
    return meant


def complete_profiles() -> Mapping[str, CountryProfile]:
    """Return every profile, by country code, for what must leave out no country.

    Raises:
        UserError: A profile is invalid. Also as `all_profiles`.
    """
    source = _source_of(None)
    for error in _load(source, _files_of(source)).errors.values():
        raise error
    return all_profiles()


def profiles_of(codes: Iterable[str], profiles: Path | ProfileSource | None = None) -> Mapping[str, CountryProfile]:
    """Return the profiles of the countries `codes`, by code.

    Raises:
        UserError: A code has no profile, or an invalid one. The message names the unknown code and the known ones.
    """
    source = _source_of(profiles)
    known, errors = all_profiles(source), _load(source, _files_of(source)).errors
    for code in codes:
        if code not in known:
            raise errors.get(code, UserError(f"unknown country {code!r}: known are {', '.join(known)}"))
    return {code: known[code] for code in codes}
