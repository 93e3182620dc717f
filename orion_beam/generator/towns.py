"""Towns of a country, around which its cells lie: `CODE.towns.csv` beside the country's profile."""

import csv
from pathlib import Path

from pydantic import ValidationError

from orion_beam.countries import profile_source
from orion_beam.errors import UserError, first_problem
from orion_beam.schemas.country import CountryProfile, Town

__all__ = ["read_towns", "towns_of"]

_MADE_UP_TOWNS = 8


def towns_of(profile: CountryProfile) -> tuple[Town, ...]:
    """Return the towns of a country: the workspace's, otherwise those that are shipped, otherwise made-up ones.

    Raises:
        UserError: As `read_towns`.
    """
    for directory in reversed(profile_source().directories):
        path = directory / f"{profile.code}.towns.csv"
        if path.exists():
            return read_towns(path)
    return tuple(
        Town(code=f"T{rank:02}", place=f"{profile.name} {rank}", weight=100 / rank)
        for rank in range(1, _MADE_UP_TOWNS + 1)
    )


def read_towns(path: Path) -> tuple[Town, ...]:
    """Read a file of towns.

    Raises:
        UserError: The file cannot be read, or a row breaks a rule of `Town`; names the file, the line and the column.
    """
    towns: dict[str, Town] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, restkey="more columns")
            for row in rows:
                given = {name: value for name, value in row.items() if value not in ("", None)}
                where = f"{path}:{rows.line_num}"
                try:
                    town = Town.model_validate(given)
                except ValidationError as error:
                    raise UserError(f"{where}: {first_problem(error)}") from None
                if town.code in towns:
                    raise UserError(f"{where}: code: {town.code} is there twice")
                towns[town.code] = town
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: {error}") from None
    if not towns:
        raise UserError(f"{path} has no town: write the line {','.join(Town.model_fields)}, and a line for each town")
    return tuple(towns.values())
