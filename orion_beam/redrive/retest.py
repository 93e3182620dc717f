"""Retest: what today's rules, profiles and reference data make of dead letters. Sends nothing."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from orion_beam.dlq.judge import Judge, Refusal
from orion_beam.dlq.references import are
from orion_beam.io.letter_headers import ReadLetters, Reference


class RetestVerdict(StrEnum):
    """What has become of a letter's trouble."""

    PASSES = "passes"
    """The record would come out on cdr.final."""
    FAILS_ALIKE = "fails_alike"
    """The same stage refuses it for the same rules."""
    FAILS_DIFFERENTLY = "fails_differently"
    """It is refused still, elsewhere or for other rules."""
    GONE = "gone"
    """It is by reference, and its raw topic holds the record no more: nothing can be said."""
    UNKNOWN_COUNTRY = "unknown_country"
    """No profile: nothing can be said."""


class Retested(NamedTuple):
    """What letters are counted by.

    Attributes:
        code: the first that the letter says.
        codes_now: of one that fails differently, the rules that it breaks now, joined by commas.
    """

    country: str
    code: str
    verdict: RetestVerdict
    codes_now: str = ""


@dataclass
class RetestReport:
    """What became of all letters."""

    counts: Counter[Retested] = field(default_factory=Counter)
    foreign: int = 0

    def add(self, read: ReadLetters, judge: Judge) -> None:
        """Judge letters and count them."""
        self.foreign += read.foreign.num_rows
        judgement, is_gone = judge.judge(read.letters), are(read.letters, Reference.GONE)
        letters = read.letters.select(["country", "code", "stage", "codes"]).to_pylist()
        for row, letter in enumerate(letters):
            country, code = letter["country"], letter["code"]
            if is_gone[row]:
                self.counts[Retested(country, code, RetestVerdict.GONE)] += 1
            elif not judgement.is_known[row]:
                self.counts[Retested(country, code, RetestVerdict.UNKNOWN_COUNTRY)] += 1
            elif judgement.passes[row]:
                self.counts[Retested(country, code, RetestVerdict.PASSES)] += 1
            elif (now := judgement.refusals[row]) == Refusal(letter["stage"], tuple(letter["codes"])):
                self.counts[Retested(country, code, RetestVerdict.FAILS_ALIKE)] += 1
            else:
                self.counts[Retested(country, code, RetestVerdict.FAILS_DIFFERENTLY, ",".join(now.codes))] += 1

    def total(self, verdict: RetestVerdict) -> int:
        """Return how many letters have a verdict."""
        return sum(count for each, count in self.counts.items() if each.verdict is verdict)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "letters": self.counts.total(),
            "foreign": self.foreign,
            **{verdict.value: self.total(verdict) for verdict in RetestVerdict},
            "counts": [each._asdict() | {"letters": count} for each, count in self.counts.most_common()],
        }
