"""Retest: runs today's rules, profiles and reference data over dead letters, without sending anything."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from orion_beam.dlq.judge import Judge, Refusal
from orion_beam.dlq.references import are
from orion_beam.io.letter_headers import ReadLetters, Reference


class RetestVerdict(StrEnum):
    """Verdict on a letter."""

    PASSES = "passes"
    """The record would come out on cdr.final."""
    FAILS_ALIKE = "fails_alike"
    """The same stage rejects the record for the same rules."""
    FAILS_DIFFERENTLY = "fails_differently"
    """Another stage rejects the record, or the same stage for other rules."""
    GONE = "gone"
    """The letter is by reference, and its raw topic no longer holds the record, so it cannot be judged."""
    UNKNOWN_COUNTRY = "unknown_country"
    """The letter's country has no profile, so it cannot be judged."""


class Retested(NamedTuple):
    """Properties by which letters are counted.

    Attributes:
        code: First code of the letter.
        codes_now: Codes of the rules that the record breaks now, joined by commas; empty unless FAILS_DIFFERENTLY.
    """

    country: str
    code: str
    verdict: RetestVerdict
    codes_now: str = ""


@dataclass
class RetestReport:
    """Counts of all letters by verdict, and number of foreign messages."""

    counts: Counter[Retested] = field(default_factory=Counter)
    foreign: int = 0

    def add(self, read: ReadLetters, judge: Judge) -> None:
        """Judge letters, and count them by verdict."""
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
        """Return the number of letters with a verdict."""
        return sum(count for each, count in self.counts.items() if each.verdict is verdict)

    def as_json(self) -> dict[str, Any]:
        """Return the report in JSON's types."""
        return {
            "letters": self.counts.total(),
            "foreign": self.foreign,
            **{verdict.value: self.total(verdict) for verdict in RetestVerdict},
            "counts": [each._asdict() | {"letters": count} for each, count in self.counts.most_common()],
        }
