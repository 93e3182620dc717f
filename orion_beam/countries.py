"""The country profiles: which countries there are is which TOML files lie in `orion_beam/profiles`."""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from orion_beam.defaults import PROFILES_DIRECTORY
from orion_beam.errors import UserError, first_problem
from schemas.country import CountryProfile
from transforms.formats import check_formats
from transforms.rules import check_rules


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


@cache
def all_profiles(directory: Path = PROFILES_DIRECTORY) -> Mapping[str, CountryProfile]:
    """Return every profile of a directory, the shipped ones unless told otherwise, by country code.

    Raises:
        UserError: there is none, or one of them is wrong.
    """
    profiles = [load_profile(path) for path in sorted(directory.glob("*.toml"))]
    if not profiles:
        raise UserError(f"{directory} holds no country profile (CODE.toml)")
    return {profile.code: profile for profile in profiles}


def default_profiles() -> Mapping[str, CountryProfile]:
    """Return the profiles of the countries that are meant where none are named, by country code."""
    return {code: profile for code, profile in all_profiles().items() if profile.is_default}


def profiles_of(codes: Iterable[str], directory: Path = PROFILES_DIRECTORY) -> Mapping[str, CountryProfile]:
    """Return the profiles of `codes`, of a directory's.

    Raises:
        UserError: a code has no profile; names it and those there are.
    """
    known = all_profiles(directory)
    for code in codes:
        if code not in known:
            raise UserError(f"unknown country {code!r}: known are {', '.join(known)}")
    return {code: known[code] for code in codes}
