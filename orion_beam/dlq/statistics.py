"""Counts of dead letters by country, stage, code, field and hour."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import polars as pl

from orion_beam.io.letter_headers import ReadLetters
from orion_beam.transforms.arrow.texts import Mask


class LetterGroup(NamedTuple):
    """Properties by which letters are counted.

    Attributes:
        code: First code of the letter.
        hour: Hour of the failure, UTC.
        is_redriven: Whether the record has been sent back, from this or another letter of it.
    """

    country: str
    stage: str
    code: str
    hour: datetime
    is_redriven: bool = False


class BrokenRule(NamedTuple):
    """Rule that letters break, as their first code or a later one."""

    country: str
    code: str
    field: str


@dataclass
class LetterStatistics:
    """Counts of letters; they contain nothing of the records.

    Attributes:
        letters: Number of dead letters that this product wrote.
        foreign: Number of other messages on the topic.
        kinds: Number of letters by group.
        rules: Number of letters by rule; a letter that breaks two rules counts twice.
        attempts: Number of letters by attempt; from attempt 2 on, the record was redriven before.
    """

    letters: int = 0
    foreign: int = 0
    kinds: Counter[LetterGroup] = field(default_factory=Counter)
    rules: Counter[BrokenRule] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)

    def add(self, read: ReadLetters, is_redriven: Mask | None = None) -> None:
        """Count letters and foreign messages; `is_redriven` says which letters are redriven (None: no letter)."""
        self.letters += read.letters.num_rows
        self.foreign += read.foreign.num_rows
        if not read.letters.num_rows:
            return
        rows = pl.DataFrame(
            read.letters.select(["country", "stage", "code", "failed_at", "codes", "fields", "attempt"])
        ).with_columns(
            hour=pl.col("failed_at").dt.truncate("1h"),
            is_redriven=pl.lit(False) if is_redriven is None else pl.Series(is_redriven),
        )
        kinds = rows.group_by(*LetterGroup._fields).len().iter_rows()
        self.kinds.update({LetterGroup(*kind): count for *kind, count in kinds})
        broken = rows.explode("codes", "fields").group_by("country", "codes", "fields").len().iter_rows()
        self.rules.update({BrokenRule(*rule): count for *rule, count in broken})
        self.attempts.update(dict(rows.group_by("attempt").len().iter_rows()))

    @property
    def hours(self) -> list[datetime]:
        """All hours from the first to the last with letters, including hours without letters."""
        found = [kind.hour for kind in self.kinds]
        if not found:
            return []
        first, last = min(found), max(found)
        count = round((last - first).total_seconds()) // 3600
        return [datetime.fromtimestamp(first.timestamp() + 3600 * hour, UTC) for hour in range(count + 1)]

    def open_by(self, name: str) -> Counter[Any]:
        """Count the open letters by one field of `LetterGroup`."""
        return Counter(
            {value: count for (value, redriven), count in self.by(name, "is_redriven").items() if not redriven}
        )

    def by(self, *names: str) -> Counter[Any]:
        """Count letters by fields of `LetterGroup`: the keys are values for one field, and tuples for several."""
        counts: Counter[Any] = Counter()
        for kind, count in self.kinds.items():
            values = tuple(getattr(kind, name) for name in names)
            counts[values[0] if len(names) == 1 else values] += count
        return counts

    @property
    def redriven(self) -> int:
        """Number of letters whose record has been sent back; the others are open."""
        return self.by("is_redriven")[True]

    def as_json(self) -> dict[str, Any]:
        """Return all counts in JSON's types."""
        return {
            "letters": self.letters,
            "open": self.letters - self.redriven,
            "redriven": self.redriven,
            "foreign": self.foreign,
            "countries": dict(self.by("country").most_common()),
            "stages": dict(self.by("stage").most_common()),
            "codes": dict(self.by("code").most_common()),
            "open_codes": dict(self.open_by("code").most_common()),
            "hours": {hour.isoformat(): count for hour, count in sorted(self.by("hour").items())},
            "attempts": {str(attempt): count for attempt, count in sorted(self.attempts.items())},
            "rules": [rule._asdict() | {"letters": count} for rule, count in self.rules.most_common()],
        }
