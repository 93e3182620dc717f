"""Redrive: dead letters go back to the raw topics that they are from, each at most once, and never in a loop.

A letter is sent in one Kafka transaction with the note that it was sent (see `Redriven`): either both are there or
none. So a redrive may be stopped or killed at any moment, and the next one goes on behind what is committed; that it is
the only one is seen to by the transactional id, with which a new redrive of a topic shuts out an older one.
"""

import getpass
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from orion_beam.dead_letters import ReadLetters
from orion_beam.dlq.fates import RedriveReport
from orion_beam.dlq.filters import Selection
from orion_beam.dlq.judge import Judge
from orion_beam.dlq.redriven import Redriven
from orion_beam.dlq.sorter import RedriveOptions, Sorter
from orion_beam.dlq.targets import Targets
from orion_beam.errors import UserError
from orion_beam.kafka.journal import Entry, write_journal
from orion_beam.kafka.ranges import Advance
from orion_beam.kafka.transactions import Outgoing, TransactionalWriter
from transforms.batches import slices_of
from transforms.rejects import ATTEMPT_HEADER
from transforms.texts import to_list

REDRIVE_HEADER = "orion.redrive.id"
MAX_TRANSACTION_ROWS = 1000
"""Letters of one transaction: enough to spread its cost, few enough that consumers do not wait for it."""


def plan_redrive(
    selection: Selection,
    options: RedriveOptions,
    judge: Judge,
    targets: Targets,
    journal: Mapping[str, Entry],
    advance: Advance | None = None,
) -> RedriveReport:
    """Return what a redrive would do now. Sends nothing."""
    redriven = Redriven(targets.letter_topic_id, journal)
    sorter = Sorter(options, judge, redriven, targets)
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
        sorter = Sorter(self.options, self.judge, redriven, self.targets)
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
