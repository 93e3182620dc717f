"""The stages as pure functions. Commands and benchmarks use them to process records without a Beam job."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from orion_beam.countries import ProfileSource, all_profiles
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.custom_stages.run import custom_splits
from orion_beam.defaults import CELLS, SUBSCRIBERS
from orion_beam.errors import UserError
from orion_beam.schemas.codes import Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.enrich import ReferenceData, enrich_batch, operators_of
from orion_beam.transforms.normalize import normalize_batch
from orion_beam.transforms.reference.reference_files import ReferenceDataError, load_cells, load_subscribers
from orion_beam.transforms.rules.networks import Operators
from orion_beam.transforms.stage.batches import SplitBatch, concat_batches
from orion_beam.transforms.stage.rejects import no_rejects
from orion_beam.transforms.stage.split import Split, split_isolating
from orion_beam.transforms.validate import validate_batch

__all__ = ["chain_of", "load_reference", "normalizing_chain_of", "places_of", "run_chain"]


def load_reference(
    cells: str = CELLS, subscribers: str = SUBSCRIBERS, profiles: Path | ProfileSource | None = None
) -> ReferenceData:
    """Load the reference data of enrichment: cells, subscribers, and the operators of the country profiles.

    Raises:
        UserError: A file cannot be read, or its content is not reference data.
    """
    try:
        operators = Operators(operators_of(all_profiles(profiles)))
        return ReferenceData(load_cells(cells), load_subscribers(subscribers), operators)
    except ReferenceDataError as error:
        raise UserError(str(error)) from None


def chain_of(profile: CountryProfile, reference: ReferenceData, stages: Sequence[JobStage] = ()) -> dict[str, Split]:
    """Return the pure functions of a country's stages by name, decode to enrich, and the user's own in their places.

    Only a bug makes the encode stage reject.
    """
    enrich = partial(enrich_batch, profiles={profile.code: profile}, reference=reference)
    return normalizing_chain_of(profile, stages) | {Stage.ENRICH: enrich} | custom_splits(stages, Stage.ENRICH)


def normalizing_chain_of(profile: CountryProfile, stages: Sequence[JobStage] = ()) -> dict[str, Split]:
    """Return the pure functions of a country's stages by name, up to those that the record checks follow."""
    profiles = {profile.code: profile}
    return {
        Stage.DECODE: partial(decode_batch, profile=profile),
        Stage.VALIDATE: partial(validate_batch, profiles=profiles),
        **custom_splits(stages, Stage.VALIDATE),
        Stage.NORMALIZE: partial(normalize_batch, profiles=profiles),
        **custom_splits(stages, Stage.NORMALIZE),
    }


def places_of(rows: pa.RecordBatch) -> list[tuple[int, int]]:
    """Return the partition and offset of each row. They identify a row of one topic, accepted or rejected."""
    columns = (rows.column(name).to_pylist() for name in ("source_partition", "source_offset"))
    return list(zip(*columns, strict=True))


def run_chain(chain: Mapping[str, Split], batch: pa.RecordBatch) -> SplitBatch:
    """Run stages one after the other, as a job does.

    Args:
        chain: Result of `chain_of` or `normalizing_chain_of`.
        batch: Rows of one country, with schema `raw.RAW_CDR_SCHEMA`.

    Returns:
        `accepted` holds the rows that every stage accepts, in order, with the schema of the last stage that ran. A
        stage runs only if the one before it accepts a row. `rejected` holds the dead letters, stage by stage.
    """
    rejected = []
    for stage, split in chain.items():
        if batch.num_rows == 0:
            break
        outcome = split_isolating(split, batch, stage)
        batch = outcome.accepted
        if outcome.rejected.num_rows:
            rejected.append(outcome.rejected)
    return SplitBatch(batch, concat_batches(rejected) if rejected else no_rejects())
