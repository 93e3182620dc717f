"""The country profiles: which countries there are is which TOML files lie in `orion_beam/profiles`."""

import logging
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from orion_beam.defaults import PROFILES_DIRECTORY
from orion_beam.errors import UserError, first_problem
from orion_beam.schemas.country import CountryProfile
from orion_beam.telemetry.logs import say
from orion_beam.transforms.decoders.registry import check_formats
from orion_beam.transforms.rules.rules import check_rules


def load_profile(path: Path) -> CountryProfile:
    """Read and check one profile.

    Raises:
        UserError: the file is not TOML, a field breaks its rule, or a format or rule is unknown; names file and field.
    """
    try:
        profile = CountryProfile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        check_formats(profile)
        check_rules(profile)
        return profile
    except ValidationError as error:
        raise UserError(f"country profile {path}: {first_problem(error)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"country profile {path}: {error}") from None


class _Loaded(NamedTuple):
    """The profiles of a directory by country code, and why others cannot be read, by the name of their file."""

    profiles: Mapping[str, CountryProfile]
    errors: Mapping[str, UserError]


@cache
def _load(directory: Path) -> _Loaded:
    profiles: dict[str, CountryProfile] = {}
    errors: dict[str, UserError] = {}
    for path in [directory] if directory.is_file() else sorted(directory.glob("*.toml")):
        try:
            profile = load_profile(path)
            profiles[profile.code] = profile
        except UserError as error:
            errors[path.stem] = error
    if not profiles:
        raise next(iter(errors.values()), UserError(f"{directory} holds no country profile (CODE.toml)"))
    return _Loaded(profiles, errors)


@cache
def all_profiles(directory: Path = PROFILES_DIRECTORY) -> Mapping[str, CountryProfile]:
    """Return every profile of a directory, the shipped ones unless told otherwise, by country code.

    One that is wrong is left out, and that is said, once: it must not stop what is done for other countries.

    Args:
        directory: of files CODE.toml; or one such file.

    Raises:
        UserError: there is none, or all are wrong.
    """
    loaded = _load(directory)
    for error in loaded.errors.values():
        say(f"warning: {error}; it is left out, and its operators are not known to others", logging.WARNING)
    return loaded.profiles


def default_profiles(directory: Path = PROFILES_DIRECTORY) -> Mapping[str, CountryProfile]:
    """Return the profiles of the countries that are meant where none are named, by country code.

    Of the shipped profiles these are those that say so, of others all.

    Raises:
        UserError: a profile is wrong: it may be of a country that is meant.
    """
    loaded = _load(directory)
    meant = {
        code: profile
        for code, profile in loaded.profiles.items()
        if profile.is_default or directory != PROFILES_DIRECTORY
    }
    for error in loaded.errors.values():
        raise UserError(f"{error}; mend it, or name the countries without it: --countries {','.join(meant)}")
    return meant


def profiles_of(codes: Iterable[str], directory: Path = PROFILES_DIRECTORY) -> Mapping[str, CountryProfile]:
    """Return the profiles of `codes`, of a directory's.

    Raises:
        UserError: a code has no profile, or a wrong one; names it and those there are.
    """
    known, errors = all_profiles(directory), _load(directory).errors
    for code in codes:
        if code not in known:
            raise errors.get(code, UserError(f"unknown country {code!r}: known are {', '.join(known)}"))
    return {code: known[code] for code in codes}
