"""Redrive: dead letters go back to the raw topics that they are from, each at most once, and never in a loop.

A letter is sent in one Kafka transaction with the note that it was sent (see `Redriven`): either both are there or
none. So a redrive may be stopped or killed at any moment, and the next one goes on behind what is committed; that it is
the only one is seen to by the transactional id, with which a new redrive of a topic shuts out an older one.
"""

import getpass
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from orion_beam.dead_letters import ReadLetters
from orion_beam.dlq.filters import Selection
from orion_beam.dlq.judge import Judge
from orion_beam.dlq.patches import Patch, apply_patch
from orion_beam.dlq.redriven import Redriven
from orion_beam.dlq.targets import Targets
from orion_beam.errors import UserError
from orion_beam.kafka.journal import Entry, write_journal
from orion_beam.kafka.ranges import Advance
from orion_beam.kafka.transactions import Outgoing, TransactionalWriter
from transforms.batches import rows_of, slices_of
from transforms.formats import all_formats
from transforms.rejects import ATTEMPT_HEADER
from transforms.texts import Mask, to_list

REDRIVE_HEADER = "orion.redrive.id"
MAX_TRANSACTION_ROWS = 1000
"""Letters of one transaction: enough to spread its cost, few enough that consumers do not wait for it."""


class Fate(StrEnum):
    """What a redrive does with a letter, or why it leaves it where it is."""

    SENT = "sent", "sent to its raw topic (in a dry run: would be)"
    STILL_FAILS = "still_fails", "today's rules refuse the record as well"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted", "it failed as often as --max-attempts allows"
    ALREADY_REDRIVEN = "already_redriven", "a redrive has sent it before; --again sends it once more"
    PATCH_FAILED = "patch_failed", "the patch raised, or found no place for the field"
    LEFT_OUT = "left_out", "the patch returned None"
    NO_TARGET = "no_target", "its source is no raw topic of a known country, or no partition of one"
    TOO_OLD = "too_old", "the raw topic would delete it at once, and its event time is its Kafka timestamp"
    FOREIGN = "foreign", "no dead letter of ours: never redriven"

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "Fate":
        """Make a member whose value is the fate and whose `meaning` is one line for people."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class Outcome(NamedTuple):
    """What became of letters of one kind."""

    fate: str
    country: str
    code: str


@dataclass
class RedriveReport:
    """What a redrive did, or would do.

    Attributes:
        read: letters that are meant, and foreign messages.
        outcomes: how many, by fate, country and first code.
        patch_failures: how many, by type and place of the failure.
    """

    read: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    patch_failures: Counter[str] = field(default_factory=Counter)

    @property
    def fates(self) -> Counter[str]:
        """How many, by fate."""
        counts: Counter[str] = Counter()
        for outcome, count in self.outcomes.items():
            counts[outcome.fate] += count
        return counts

    @property
    def is_balanced(self) -> bool:
        """Whether every letter that was read has exactly one fate."""
        return self.read == self.outcomes.total()

    def add(self, other: "RedriveReport") -> None:
        """Take in what became of more letters."""
        self.read += other.read
        self.outcomes.update(other.outcomes)
        self.patch_failures.update(other.patch_failures)

    def count(self, letters: pa.RecordBatch, fate: Fate) -> None:
        """Note the fate of letters."""
        columns = (to_list(letters.column(name)) for name in ("country", "code"))
        self.outcomes.update(Outcome(fate, *kind) for kind in zip(*columns, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "read": self.read,
            "balanced": self.is_balanced,
            "fates": dict(self.fates),
            "outcomes": [outcome._asdict() | {"letters": count} for outcome, count in self.outcomes.most_common()],
            "patch_failures": dict(self.patch_failures),
        }


@dataclass(frozen=True)
class RedriveOptions:
    """How to redrive.

    Attributes:
        patch: done to each record before it is judged, or None.
        patch_name: what the audit line says of it: never what it sets a field to.
        validate: send only what today's chain accepts.
        max_attempts: a letter that failed so often is left where it is.
        records_per_s: at most so many are sent, None for no limit.
        again: send also what a redrive has sent before.
    """

    patch: Patch | None = None
    patch_name: str | None = None
    validate: bool = True
    max_attempts: int = 3
    records_per_s: float | None = None
    again: bool = False


class _Ready(NamedTuple):
    """Letters that are to be sent.

    Attributes:
        letters: with their new payloads.
        timestamps_ms: of each; None for that of the moment.
        report: of all that were sorted, these as sent: it holds once they are.
    """

    letters: pa.RecordBatch
    timestamps_ms: list[int | None]
    report: RedriveReport


@dataclass
class _Sorter:
    """Gives each letter its fate."""

    selection: Selection
    options: RedriveOptions
    judge: Judge
    redriven: Redriven
    targets: Targets

    def sort(self, read: ReadLetters) -> _Ready:
        """Count what stays where it is, by why; return what is to be sent."""
        letters = read.letters
        self._report = RedriveReport(letters.num_rows + read.foreign.num_rows)
        if read.foreign.num_rows:
            self._report.outcomes[Outcome(Fate.FOREIGN, "", "")] = read.foreign.num_rows
        if not self.options.again:
            letters = self._keep(letters, ~self.redriven.holds(letters), Fate.ALREADY_REDRIVEN)
        letters = self._keep(letters, self.targets.hold(letters), Fate.NO_TARGET)
        attempts = letters.column("attempt").to_numpy()
        letters = self._keep(letters, attempts < self.options.max_attempts, Fate.ATTEMPTS_EXHAUSTED)
        letters = self._patched(letters)
        judgement = self.judge.judge(letters)
        if self.options.validate:
            formats = [name for name, passes in zip(judgement.formats, judgement.passes, strict=True) if passes]
            letters = self._keep(letters, judgement.passes, Fate.STILL_FAILS)
        else:
            formats = judgement.formats
        return self._timed(letters, formats)

    def _keep(self, letters: pa.RecordBatch, mask: Mask, fate_of_others: Fate) -> pa.RecordBatch:
        self._report.count(rows_of(letters, ~mask), fate_of_others)
        return rows_of(letters, mask)

    def _patched(self, letters: pa.RecordBatch) -> pa.RecordBatch:
        if self.options.patch is None or not letters.num_rows:
            return letters
        values, failures = apply_patch(self.options.patch, letters, self.selection.topic)
        self._report.patch_failures.update(failures.values())
        has_failed = np.zeros(len(values), np.bool_)
        has_failed[list(failures)] = True
        place = letters.schema.get_field_index("value")
        letters = letters.set_column(place, letters.schema.field(place), pa.array(values, pa.binary()))
        letters = self._keep(letters, ~has_failed, Fate.PATCH_FAILED)
        return self._keep(letters, letters.column("value").is_valid().to_numpy(zero_copy_only=False), Fate.LEFT_OUT)

    def _timed(self, letters: pa.RecordBatch, formats: list[str | None]) -> _Ready:
        """Give each letter its timestamp: its own, but for one that retention would delete before it is read."""
        is_young = self.targets.are_young(letters)
        # Where the event time is in the payload, the timestamp may be another.
        is_free = np.array([name is not None and all_formats()[name].has_event_time for name in formats], np.bool_)
        may_go = is_young | is_free
        own = to_list(letters.column("source_timestamp").cast(pa.int64()))
        stamps = [stamp if young else None for stamp, young in zip(own, is_young, strict=True)]
        ready = self._keep(letters, may_go, Fate.TOO_OLD)
        self._report.count(ready, Fate.SENT)
        return _Ready(ready, [stamp for stamp, goes in zip(stamps, may_go, strict=True) if goes], self._report)


def plan_redrive(
    selection: Selection, options: RedriveOptions, judge: Judge, targets: Targets, journal: Mapping[str, Entry],
    advance: Advance | None = None,
) -> RedriveReport:  # fmt: skip
    """Return what a redrive would do now. Sends nothing."""
    redriven = Redriven(targets.letter_topic_id, journal)
    sorter = _Sorter(selection, options, judge, redriven, targets)
    report = RedriveReport()
    for read in selection.read(advance):
        report.add(sorter.sort(read).report)
    return report


@dataclass
class Redrive:
    """One redrive.

    Attributes:
        selection: which letters, bounded by the ends that the partitions had at its start: what fails again lies
            behind them, so that it can never loop.
        options: how.
        judge: says which records would pass.
        targets: where letters may go.
        id: names it in the journal, and in the header REDRIVE_HEADER of what it sends.
        report: what it has done so far.
    """

    selection: Selection
    options: RedriveOptions
    judge: Judge
    targets: Targets
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    report: RedriveReport = field(default_factory=RedriveReport)

    def run(self, advance: Advance | None = None, wait: Callable[[float], None] = time.sleep) -> RedriveReport:
        """Send what may be sent, and note the beginning and the end on the journal.

        Exactly once for readers of committed records: a letter and the note that it was sent are one transaction.

        Args:
            advance: told how far it has come.
            wait: waits some seconds, where there is a rate limit.

        Raises:
            UserError: another redrive of the topic has begun.
            JobFailedError: the broker refuses a transaction: nothing of it is there.
        """
        started_at = datetime.now(UTC)
        servers, key = self.selection.bootstrap_servers, f"redrive/{self.id}"
        try:
            with TransactionalWriter(servers, f"orion-redrive-{self.selection.topic}") as writer:
                # Only now is nobody else writing: the journal holds all that older redrives have committed.
                redriven = Redriven(self.targets.letter_topic_id, writer.read_journal())
                writer.commit([], {key: self._entry("running", started_at)})
                self._send_all(writer, redriven, advance, wait)
                writer.commit([], {key: self._entry("finished", started_at)})
        except BaseException as error:
            state = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            with suppress(UserError):  # a broker that is gone takes no line either, and is what to tell
                write_journal(servers, key, self._entry(state, started_at))
            raise
        return self.report

    def _send_all(
        self, writer: TransactionalWriter, redriven: Redriven, advance: Advance | None, wait: Callable[[float], None]
    ) -> None:
        sorter = _Sorter(self.selection, self.options, self.judge, redriven, self.targets)
        pace = _Pace(self.options.records_per_s, wait)
        for read in self.selection.read(advance):
            for part in _parts_of(read, pace.most_rows):
                ready = sorter.sort(part)
                if ready.letters.num_rows:
                    changed, entries = redriven.with_letters(ready.letters)
                    writer.commit(self._outgoing(ready.letters, ready.timestamps_ms), entries)
                    redriven.note(changed)
                self.report.add(ready.report)
                pace.keep(ready.letters.num_rows)

    def _outgoing(self, letters: pa.RecordBatch, stamps: list[int | None]) -> Iterator[Outgoing]:
        names = ("source_topic", "source_partition", "key", "value", "attempt")
        columns = [to_list(letters.column(name)) for name in names]
        sent = letters.column("headers").to_pylist()
        for topic, partition, key, value, attempt, headers, stamp in zip(*columns, sent, stamps, strict=True):
            own = [(header["key"], header["value"]) for header in headers]
            ours = [(ATTEMPT_HEADER, str(attempt + 1).encode()), (REDRIVE_HEADER, self.id.encode())]
            yield Outgoing(topic, partition, key, value, [*own, *ours], stamp)

    def _entry(self, state: str, started_at: datetime) -> Entry:
        return {
            "kind": "redrive",
            "id": self.id,
            "state": state,
            "user": getpass.getuser(),
            "started_at": started_at.isoformat(timespec="milliseconds"),
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "topic": self.selection.topic,
            "filter": self.selection.filter.described(),
            "offsets": {str(part.partition): list(held) for part, held in sorted(self.selection.ranges.items())},
            "patch": self.options.patch_name,
            "validate": self.options.validate,
            "max_attempts": self.options.max_attempts,
            "records_per_s": self.options.records_per_s,
            "read": self.report.read,
            "fates": dict(self.report.fates),
        }


def _parts_of(read: ReadLetters, most_rows: int) -> Iterator[ReadLetters]:
    """Cut what was read into transactions; foreign messages, which none sends, come with the first."""
    foreign = read.foreign
    for letters in slices_of(read.letters, most_rows) if read.letters.num_rows else [read.letters]:
        yield ReadLetters(letters, foreign)
        foreign = foreign.slice(0, 0)


class _Pace:
    """Keeps to a number of records a second, a transaction at a time."""

    def __init__(self, records_per_s: float | None, wait: Callable[[float], None]) -> None:
        self._records_per_s, self._wait = records_per_s, wait
        self._begin = time.monotonic()
        self._sent = 0

    @property
    def most_rows(self) -> int:
        """Rows of a transaction: of a slow redrive, what goes in a second."""
        if self._records_per_s is None:
            return MAX_TRANSACTION_ROWS
        return max(1, min(MAX_TRANSACTION_ROWS, int(self._records_per_s)))

    def keep(self, sent: int) -> None:
        self._sent += sent
        if self._records_per_s is not None:
            ahead = self._sent / self._records_per_s - (time.monotonic() - self._begin)
            if ahead > 0:
                self._wait(ahead)
