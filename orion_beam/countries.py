"""The country profiles: each TOML file in `orion_beam/profiles` defines a country."""

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

__all__ = ["all_profiles", "default_profiles", "load_profile", "profiles_of"]


def load_profile(path: Path) -> CountryProfile:
    """Read and check one profile.

    Raises:
        UserError: The file is not TOML, a field breaks its rule, or a format or rule is unknown. The message names file
            and field.
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
    """The valid profiles of a directory by country code, and the errors of the invalid ones by file name."""

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
    """Return every valid profile of a directory, by country code.

    An invalid profile is skipped with one warning, so that it does not stop work for other countries.

    Args:
        directory: Directory of files CODE.toml, or one such file; by default the shipped profiles.

    Raises:
        UserError: There is no profile, or all are invalid.
    """
    loaded = _load(directory)
    for error in loaded.errors.values():
        say(f"warning: {error}; it is left out, and its operators are not known to others", logging.WARNING)
    return loaded.profiles


def default_profiles(directory: Path = PROFILES_DIRECTORY) -> Mapping[str, CountryProfile]:
    """Return the profiles of the default countries, by country code. They apply if the user names no country.

    The shipped profiles mark the default countries with `is_default`. In any other directory all countries are default.

    Raises:
        UserError: A profile is invalid. Its country may be a default one.
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
    """Return the profiles of the countries `codes`, by code.

    Raises:
        UserError: A code has no profile, or an invalid one. The message names the unknown code and the known ones.
    """
    known, errors = all_profiles(directory), _load(directory).errors
    for code in codes:
        if code not in known:
            raise errors.get(code, UserError(f"unknown country {code!r}: known are {', '.join(known)}"))
    return {code: known[code] for code in codes}
