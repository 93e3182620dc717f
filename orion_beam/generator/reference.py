"""Writer of the reference data that the package ships, made from the generator's population.

Run `python -m orion_beam.generator.reference` after a change to the population or to the default countries. A test
fails when the shipped files differ from what this module writes.
"""

from pathlib import Path

import polars as pl

from orion_beam.countries import default_profiles
from orion_beam.defaults import REFERENCE_DIRECTORY
from orion_beam.generator.population import POPULATION_SIZE, cells_of, subscribers_of

CELLS_FILE = "cells.csv"
SUBSCRIBERS_FILE = "subscribers.parquet"
SUBSCRIBERS_PER_COUNTRY = 2_000


def reference_cells() -> pl.DataFrame:
    """Return the cells of the default countries: cell_id, country, plmn, place, lat, lon."""
    frames = [cells_of(profile) for profile in default_profiles().values()]
    return pl.concat(frames).select("cell_id", "country", "plmn", "place", "lat", "lon")


def reference_subscribers() -> pl.DataFrame:
    """Return some subscribers of the default countries: imsi, segment, plan, subscriber_type.

    They are every tenth subscriber, active and quiet ones alike, so many CDRs match none, as in real life.
    """
    frames = [subscribers_of(profile) for profile in default_profiles().values()]
    step = POPULATION_SIZE // SUBSCRIBERS_PER_COUNTRY
    return pl.concat([frame.gather_every(step) for frame in frames]).select(
        "imsi", "segment", "plan", "subscriber_type"
    )


def write_reference(directory: Path = REFERENCE_DIRECTORY) -> None:
    """Write cells.csv and subscribers.parquet into a directory, which is created when it does not exist."""
    directory.mkdir(parents=True, exist_ok=True)
    reference_cells().write_csv(directory / CELLS_FILE)
    reference_subscribers().write_parquet(directory / SUBSCRIBERS_FILE)


if __name__ == "__main__":
    write_reference()
