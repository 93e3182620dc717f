"""What becomes of one record: each stage's verdict, and what it says when the last of them has passed it on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from orion_beam.schemas.codes import Code, Stage
from orion_beam.schemas.raw import RAW_CDR_SCHEMA
from orion_beam.telemetry.masking import mask_field
from orion_beam.transforms.stage.split import Split, split_isolating

_IDS = frozenset({"cdr_id", "duplicate_of"})
"""Hashes, which hold digits and no number."""


@dataclass(frozen=True)
class StageVerdict:
    """What a stage makes of a record.

    Attributes:
        accepted: it goes on.
        codes: of the rules that it breaks,
        rules: and these for people, as `field: code: meaning`.
    """

    stage: Stage
    accepted: bool
    codes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """What today's chain makes of a record.

    Attributes:
        verdicts: of each stage that it reached.
        fields: as the last stage that accepted it hands them on; none when no format reads it.
    """

    verdicts: tuple[StageVerdict, ...]
    fields: Mapping[str, Any]

    @property
    def is_accepted(self) -> bool:
        """Whether it would come out on cdr.final."""
        return all(verdict.accepted for verdict in self.verdicts)


def judge(chain: Mapping[Stage, Split], record: pa.RecordBatch) -> Judged:
    """Run the stages over one record.

    Args:
        chain: see `orion_beam.chain.chain_of`.
        record: one row of `raw.RAW_CDR_SCHEMA`.
    """
    verdicts: list[StageVerdict] = []
    for stage, split in chain.items():
        outcome = split_isolating(split, record, stage)
        if outcome.rejected.num_rows:
            letter = outcome.rejected.to_pylist()[0]
            verdicts.append(StageVerdict(stage, False, tuple(letter["codes"]), _rules(letter)))
            break
        verdicts.append(StageVerdict(stage, True))
        record = outcome.accepted
    raw = set(RAW_CDR_SCHEMA.names)
    return Judged(tuple(verdicts), {name: value for name, value in record.to_pylist()[0].items() if name not in raw})


def _rules(letter: Mapping[str, Any]) -> tuple[str, ...]:
    pairs = zip(letter["fields"], letter["codes"], strict=True)
    return tuple(f"{field}: {code}: {Code[code.upper()].meaning}" for field, code in pairs)


def masked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with subscribers' numbers hidden, wherever in them they are."""
    return {
        name: mask_field(name, value) if isinstance(value, str) and name not in _IDS else value
        for name, value in fields.items()
    }
