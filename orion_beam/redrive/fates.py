"""Fates of dead letters in a redrive: each letter has exactly one, so that the counts balance."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import pyarrow as pa

from orion_beam.transforms.arrow.texts import to_list


class Fate(StrEnum):
    """Outcome of a letter in a redrive: it is sent, or there is a reason why not."""

    SENT = "sent", "sent to its raw topic (in a dry run: would be)"
    STILL_FAILS = "still_fails", "today's rules refuse the record as well"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted", "it failed as often as --max-attempts allows"
    ALREADY_REDRIVEN = "already_redriven", "a redrive has sent its record before; --again sends it once more"
    COPY = "copy", "another letter of the same record was sent: a job that restarts may write a letter twice"
    PATCH_FAILED = "patch_failed", "the patch raised, or found no place for the field"
    LEFT_OUT = "left_out", "the patch returned None"
    NO_TARGET = "no_target", "its source is no raw topic of a known country, or no partition of one"
    GONE = "gone", "it is by reference, and its raw topic holds the record no more"
    TOO_LARGE = "too_large", "its raw topic takes no message that large, with the headers that a redrive adds"
    TOO_OLD = (
        "too_old",
        "the raw topic would not keep its Kafka timestamp, and no event time is known to be in its payload",
    )
    FOREIGN = "foreign", "no dead letter of ours: never redriven"

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "Fate":
        """Create a member with a value and a `meaning`, one line for people."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class FateCount(NamedTuple):
    """Properties by which a report counts letters."""

    fate: str
    country: str
    code: str


@dataclass
class RedriveReport:
    """Report of what a redrive did, or would do.

    Attributes:
        read: Number of selected letters and foreign messages.
        outcomes: Number of letters by fate, country and first code.
        patch_failures: Number of letters by type and place of the patch's failure.
    """

    read: int = 0
    outcomes: Counter[FateCount] = field(default_factory=Counter)
    patch_failures: Counter[str] = field(default_factory=Counter)

    @property
    def fates(self) -> Counter[str]:
        """Number of letters by fate."""
        counts: Counter[str] = Counter()
        for outcome, count in self.outcomes.items():
            counts[outcome.fate] += count
        return counts

    @property
    def is_balanced(self) -> bool:
        """Whether every letter that was read has exactly one fate."""
        return self.read == self.outcomes.total()

    def add(self, other: "RedriveReport") -> None:
        """Add the report of more letters."""
        self.read += other.read
        self.outcomes.update(other.outcomes)
        self.patch_failures.update(other.patch_failures)

    def count(self, letters: pa.RecordBatch, fate: Fate) -> None:
        """Count letters under a fate."""
        columns = (to_list(letters.column(name)) for name in ("country", "code"))
        self.outcomes.update(FateCount(fate, *kind) for kind in zip(*columns, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return the report in JSON's types."""
        return {
            "read": self.read,
            "balanced": self.is_balanced,
            "fates": dict(self.fates),
            "outcomes": [outcome._asdict() | {"letters": count} for outcome, count in self.outcomes.most_common()],
            "patch_failures": dict(self.patch_failures),
        }
