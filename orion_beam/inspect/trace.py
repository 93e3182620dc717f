"""Trace of one record: the verdict of each stage, and the fields after the last stage that accepted it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from orion_beam.schemas.raw import RAW_CDR_SCHEMA
from orion_beam.telemetry.masking import mask_field
from orion_beam.transforms.stage.rejects import meanings_in
from orion_beam.transforms.stage.split import Split, split_isolating

_IDS = frozenset({"cdr_id", "duplicate_of"})
"""Fields that are never masked: they contain digits, but no subscriber's number."""


@dataclass(frozen=True)
class StageVerdict:
    """Verdict of a stage on a record.

    Attributes:
        accepted: Whether the stage accepts the record.
        codes: Codes of the rules that the record breaks.
        rules: The same rules for people, as `field: code: meaning`.
    """

    stage: str
    accepted: bool
    codes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """Outcome of today's chain for a record.

    Attributes:
        verdicts: Verdict of each stage that the record reached.
        fields: Fields after the last stage that accepted the record; empty if no format reads it.
    """

    verdicts: tuple[StageVerdict, ...]
    fields: Mapping[str, Any]

    @property
    def is_accepted(self) -> bool:
        """Whether the record would come out on cdr.final."""
        return all(verdict.accepted for verdict in self.verdicts)


def judge(chain: Mapping[str, Split], record: pa.RecordBatch) -> Judged:
    """Run the stages over one record.

    Args:
        chain: Stages in order, see `orion_beam.chain.chain_of`.
        record: One row of `raw.RAW_CDR_SCHEMA`.
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
    broken = zip(letter["fields"], letter["codes"], meanings_in(letter), strict=True)
    return tuple(": ".join(each) for each in broken)


def masked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with subscribers' numbers masked, in every field but `_IDS`."""
    return {name: _masked(name, value) for name, value in fields.items()}


def _masked(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return masked(value)
    return mask_field(name, value) if isinstance(value, str) and name not in _IDS else value
