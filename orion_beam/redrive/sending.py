"""Redrive: sends dead letters back to their raw topics, each at most once, and never in a loop.

One Kafka transaction contains a record and the journal entry that it was sent (see `Redriven`): either both are
committed or neither. So a redrive may be stopped or killed at any moment, and the next one continues after the last
commit. Only one redrive runs at a time: by its transactional id, Kafka fences off an older one.
"""

import getpass
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from orion_beam.dlq.filters import Selection
from orion_beam.dlq.judge import Judge
from orion_beam.errors import UserError
from orion_beam.io.letter_headers import (
    REDRIVE_HEADER,
    REDRIVE_REASON_HEADER,
    REDRIVE_SOURCE_HEADER,
    ReadLetters,
)
from orion_beam.job_file.environment import transactional_id
from orion_beam.kafka.entries import Entry
from orion_beam.kafka.offset_ranges import Advance, offset_ranges
from orion_beam.redrive.fates import RedriveReport
from orion_beam.redrive.journal import write_journal
from orion_beam.redrive.sent_records import Redriven, redriven_of
from orion_beam.redrive.sorter import RedriveOptions, Sorter
from orion_beam.redrive.targets import Targets
from orion_beam.redrive.transactions import Outgoing, TransactionalWriter
from orion_beam.transforms.arrow.texts import to_list
from orion_beam.transforms.stage.batches import slices_of
from orion_beam.transforms.stage.rejects import ATTEMPT_HEADER

MAX_TRANSACTION_ROWS = 1000
"""Maximum letters of a transaction: enough to spread its cost, and few enough that consumers do not wait long."""


def plan_redrive(
    selection: Selection,
    options: RedriveOptions,
    judge: Judge,
    targets: Targets,
    journal: Mapping[str, Entry],
    advance: Advance | None = None,
) -> RedriveReport:
    """Report what a redrive would do now, without sending anything."""
    redriven = _redriven(selection, targets, journal)
    sorter = Sorter(options, judge, redriven, targets)
    report = RedriveReport()
    for read in selection.read(advance, follow=True):
        report.add(sorter.sort(read).report)
    return report


def _redriven(selection: Selection, targets: Targets, journal: Mapping[str, Entry]) -> Redriven:
    return redriven_of(
        selection.bootstrap_servers, selection.topic, targets.letter_topic_id, targets.topic_ids, journal
    )


@dataclass
class RedriveRun:
    """Run of one redrive.

    Attributes:
        selection: Letters to redrive, up to the ends of the partitions at its start. Records that fail again are after
            these ends, so a redrive never loops.
        options: Options of the redrive.
        judge: Judge that decides which records would pass.
        targets: Topics that letters may go to.
        id: Id of the redrive, in the journal and in the header REDRIVE_HEADER of the records that it sends.
        report: Report of what it has done so far.
        raw_from: End offset of each partition of the raw topics when it began, by topic.
        raw_to: End offset of each partition when it had sent everything; its records are between the two offsets.
    """

    selection: Selection
    options: RedriveOptions
    judge: Judge
    targets: Targets
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    report: RedriveReport = field(default_factory=RedriveReport)
    raw_from: dict[str, list[int]] = field(default_factory=dict)
    raw_to: dict[str, list[int]] = field(default_factory=dict)

    def run(
        self,
        advance: Advance | None = None,
        wait: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> RedriveReport:
        """Send the letters that may be sent, and write the redrive's start and end to the journal.

        Exactly once for readers of committed records: a record and the entry that it was sent are one transaction.

        Args:
            advance: Called with the number of offsets by which the redrive has advanced.
            wait: Function that waits for some seconds, for the rate limit.
            clock: Function that returns the time in seconds, for the rate limit.

        Raises:
            UserError: Another redrive has begun.
            JobFailedError: The broker refuses a transaction, or does not answer in time; see
                `TransactionalWriter.commit`.
        """
        started_at = datetime.now(UTC)
        servers, key = self.selection.bootstrap_servers, f"redrive/{self.id}"
        try:
            with TransactionalWriter(servers, transactional_id()) as writer:
                # From here on no other redrive writes, so the journal has everything that older ones have committed.
                redriven = _redriven(self.selection, self.targets, writer.read_journal())
                self.raw_from = self._raw_ends()
                writer.commit([], {key: self._entry("running", started_at)})
                self._send_all(writer, redriven, advance, _Pace(self.options.records_per_s, wait, clock))
                self.raw_to = self._raw_ends()
                writer.commit([], {key: self._entry("finished", started_at)})
        except BaseException as error:
            state = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            with suppress(UserError):  # the error to report is the one that stopped the redrive
                write_journal(servers, key, self._entry(state, started_at))
            raise
        return self.report

    def _send_all(
        self, writer: TransactionalWriter, redriven: Redriven, advance: Advance | None, pace: "_Pace"
    ) -> None:
        sorter = Sorter(self.options, self.judge, redriven, self.targets)
        for read in self.selection.read(advance, follow=True):
            for part in _parts_of(read, pace.most_rows):
                ready = sorter.sort(part)
                if ready.letters.num_rows:
                    entries = redriven.entries_with(ready.letters)
                    writer.commit(self._outgoing(ready.letters, ready.timestamps_ms), entries)
                    redriven.add(ready.letters)
                self.report.add(ready.report)
                pace.keep(ready.letters.num_rows)

    def _outgoing(self, letters: pa.RecordBatch, stamps: list[int | None]) -> Iterator[Outgoing]:
        names = ("source_topic", "source_partition", "source_offset", "key", "value", "attempt")
        columns = [to_list(letters.column(name)) for name in names]
        headers = letters.column("headers").to_pylist()
        reason = self.options.restamp_reason
        is_restamped = self.options.are_restamped(letters)
        for row, (topic, partition, offset, key, value, attempt) in enumerate(zip(*columns, strict=True)):
            own = [(each["key"], each["value"]) for each in headers[row] if self.options.keeps_header(each["key"])]
            ours = {
                ATTEMPT_HEADER: str(attempt + 1),
                REDRIVE_HEADER: self.id,
                REDRIVE_SOURCE_HEADER: f"{topic}[{partition}]@{offset}",
            } | ({REDRIVE_REASON_HEADER: reason} if reason and is_restamped[row] else {})
            sent = [*own, *((name, text.encode()) for name, text in ours.items())]
            yield Outgoing(topic, partition, key, value, sent, stamps[row])

    def _raw_ends(self) -> dict[str, list[int]]:
        """Return the present end offset of each partition of the raw topics; `inspect.find_in_kafka` uses it."""
        ends: dict[str, list[int]] = {}
        for part, held in sorted(offset_ranges(self.selection.bootstrap_servers, self.targets.topics).items()):
            ends.setdefault(part.topic, []).append(held.high)
        return ends

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
            "restamp_reason": self.options.restamp_reason,
            "drop_headers": list(self.options.drop_headers),
            "raw_from": self.raw_from,
            "raw_to": self.raw_to,
            "read": self.report.read,
            "fates": dict(self.report.fates),
        }


def _parts_of(read: ReadLetters, most_rows: int) -> Iterator[ReadLetters]:
    """Cut letters into parts, one per transaction; the foreign messages, which are never sent, go with the first."""
    foreign = read.foreign
    for letters in slices_of(read.letters, most_rows) if read.letters.num_rows else [read.letters]:
        yield ReadLetters(letters, foreign)
        foreign = foreign.slice(0, 0)


class _Pace:
    """Rate limit in records per second, kept after each transaction."""

    def __init__(self, records_per_s: float | None, wait: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._records_per_s, self._wait, self._clock = records_per_s, wait, clock
        self._begin = clock()
        self._sent = 0

    @property
    def most_rows(self) -> int:
        """Maximum rows of a transaction; with a low rate limit, the rows of one second."""
        if self._records_per_s is None:
            return MAX_TRANSACTION_ROWS
        return max(1, min(MAX_TRANSACTION_ROWS, int(self._records_per_s)))

    def keep(self, sent: int) -> None:
        self._sent += sent
        if self._records_per_s is not None:
            ahead = self._sent / self._records_per_s - (self._clock() - self._begin)
            if ahead > 0:
                self._wait(ahead)
