"""Judge of dead letters: runs today's chain over the original records, without sending anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.chain import chain_of, places_of, run_chain
from orion_beam.countries import all_profiles
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.raw import RAW_CDR_SCHEMA
from orion_beam.transforms.arrow.texts import Mask, is_in
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.enrich import ReferenceData
from orion_beam.transforms.stage.batches import batch_of, columns_of, filter_rows
from orion_beam.transforms.stage.split import Split


class Refusal(NamedTuple):
    """Stage that rejects a record, and the codes of all rules that the record breaks."""

    stage: str
    codes: tuple[str, ...]


class Judgement(NamedTuple):
    """Outcome of the chain for letters, in their order.

    Attributes:
        is_known: Whether the letter's country has a profile. Without one there is no outcome.
        passes: Whether the record would come out on cdr.final.
        refusals: Reason of each rejected record, by row.
    """

    is_known: Mask
    passes: Mask
    refusals: Mapping[int, Refusal]


def as_raw(letters: pa.RecordBatch, topic: str) -> pa.RecordBatch:
    """Return the original records of letters as raw rows.

    Args:
        letters: Rows of `orion_beam.io.letter_headers.LETTER_SCHEMA`.
        topic: Topic that the letters are on. The rows have the letters' partitions and offsets, which are unique.

    Returns:
        Rows of `raw.RAW_CDR_SCHEMA`, in order, with the original timestamps.
    """
    columns = columns_of(letters)
    return batch_of(
        columns
        | {f"raw_{name}": columns[name] for name in ("key", "value", "headers")}
        | {
            "source_topic": pa.repeat(pa.scalar(topic, pa.string()), letters.num_rows),
            "source_partition": columns["letter_partition"],
            "source_offset": columns["letter_offset"],
        },
        RAW_CDR_SCHEMA,
    )


@dataclass
class Judge:
    """Runner of the chain of each letter's country.

    Attributes:
        topic: Topic that the letters are on.
        reference: Reference data for enrichment.
        profiles: Profiles by country code.
        stages: The user's own stages.
    """

    topic: str
    reference: ReferenceData
    profiles: Mapping[str, CountryProfile] = field(default_factory=all_profiles)
    stages: Sequence[JobStage] = ()
    _chains: dict[str, Mapping[str, Split]] = field(default_factory=dict)

    def judge(self, letters: pa.RecordBatch) -> Judgement:
        """Run the chain over the records of rows of `orion_beam.io.letter_headers.LETTER_SCHEMA`."""
        count = letters.num_rows
        records = as_raw(letters, self.topic)
        row_of = {place: row for row, place in enumerate(places_of(records))}
        passes = np.zeros(count, np.bool_)
        refusals: dict[int, Refusal] = {}
        is_known = is_in(letters.column("country"), pa.array(list(self.profiles)))
        for country in pc.unique(letters.column("country").filter(pa.array(is_known))).to_pylist():
            own = filter_rows(records, is_in(letters.column("country"), pa.array([country])))
            outcome = run_chain(self._chain(country), own)
            for place in places_of(outcome.accepted):
                passes[row_of[place]] = True
            reasons = (outcome.rejected.column(name).to_pylist() for name in ("stage", "codes"))
            for place, stage, codes in zip(places_of(outcome.rejected), *reasons, strict=True):
                refusals[row_of[place]] = Refusal(stage, tuple(codes))
        return Judgement(is_known, passes, refusals)

    def _chain(self, country: str) -> Mapping[str, Split]:
        if country not in self._chains:
            self._chains[country] = chain_of(self.profiles[country], self.reference, self.stages)
        return self._chains[country]


def decoded_texts(letters: pa.RecordBatch, topic: str) -> list[dict[str, str | None] | None]:
    """Decode each letter's record to texts, by field of `cdr.DecodedFields`; None if no format reads it."""
    records = as_raw(letters, topic)
    row_of = {place: row for row, place in enumerate(places_of(records))}
    texts: list[dict[str, str | None] | None] = [None] * letters.num_rows
    for country in pc.unique(letters.column("country")).to_pylist():
        if (profile := all_profiles().get(country)) is None:
            continue
        own = filter_rows(records, is_in(letters.column("country"), pa.array([country])))
        accepted = decode_batch(own, profile).accepted
        fields = accepted.drop_columns(RAW_CDR_SCHEMA.names).to_pylist()
        for place, text in zip(places_of(accepted), fields, strict=True):
            texts[row_of[place]] = text
    return texts
