"""Which dead letters a redrive sends, with which payload and timestamp, and why it leaves the others where they are."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.dlq.filters import break_one_of
from orion_beam.dlq.judge import Judge, decoded_texts
from orion_beam.dlq.references import are
from orion_beam.io.letter_headers import ReadLetters, Reference
from orion_beam.redrive.fates import Fate, FateCount, RedriveReport
from orion_beam.redrive.patches import Patch, apply_patch
from orion_beam.redrive.sent_records import Redriven, SentRecords, first_letters
from orion_beam.redrive.targets import Targets
from orion_beam.schemas.codes import Code
from orion_beam.transforms.arrow.texts import Mask, to_list
from orion_beam.transforms.decoders.registry import all_formats
from orion_beam.transforms.stage.batches import filter_rows


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
        restamp_reason: why letters that were refused as `future_timestamp` get the timestamp of the moment; None leaves
            them theirs.
        drop_headers: the source's own headers that are left out: names, or patterns with `*`, `?` and `[…]`.
    """

    patch: Patch | None = None
    patch_name: str | None = None
    validate: bool = True
    max_attempts: int = 3
    records_per_s: float | None = None
    again: bool = False
    restamp_reason: str | None = None
    drop_headers: tuple[str, ...] = ()

    def are_restamped(self, letters: pa.RecordBatch) -> Mask:
        """Say which letters get the timestamp of the moment, for the reason given."""
        if self.restamp_reason is None:
            return np.zeros(letters.num_rows, np.bool_)
        return break_one_of(letters, {Code.FUTURE_TIMESTAMP})

    def keeps_header(self, name: str) -> bool:
        """Say whether a header of the source's goes along."""
        return not any(fnmatchcase(name, pattern) for pattern in self.drop_headers)


class Ready(NamedTuple):
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
class Sorter:
    """Gives each letter its fate.

    Attributes:
        options: how to redrive.
        judge: says which records would pass.
        redriven: which records have been sent before.
        targets: where letters may go.
    """

    options: RedriveOptions
    judge: Judge
    redriven: Redriven
    targets: Targets
    _sent: SentRecords = field(default_factory=SentRecords, init=False)

    def sort(self, read: ReadLetters) -> Ready:
        """Count what stays where it is, by why; return what is to be sent."""
        letters = read.letters
        self._report = RedriveReport(letters.num_rows + read.foreign.num_rows)
        if read.foreign.num_rows:
            self._report.outcomes[FateCount(Fate.FOREIGN, "", "")] = read.foreign.num_rows
        # Before what the ledger says: it knows by now what this redrive has sent.
        letters = self._keep(letters, ~self._sent.holds(letters), Fate.COPY)
        if not self.options.again:
            letters = self._keep(letters, ~self.redriven.holds(letters), Fate.ALREADY_REDRIVEN)
        letters = self._keep(letters, self.targets.hold(letters), Fate.NO_TARGET)
        attempts = letters.column("attempt").to_numpy()
        letters = self._keep(letters, attempts < self.options.max_attempts, Fate.ATTEMPTS_EXHAUSTED)
        letters = self._keep(letters, ~are(letters, Reference.GONE), Fate.GONE)
        letters = self._patched(letters)
        letters = self._keep(letters, self.targets.take(letters), Fate.TOO_LARGE)
        if self.options.validate:
            judgement = self.judge.judge(self._restamped(letters))
            letters = self._keep(letters, judgement.passes, Fate.STILL_FAILS)
        return self._timed(letters)

    def _keep(self, letters: pa.RecordBatch, mask: Mask, fate_of_others: Fate) -> pa.RecordBatch:
        self._report.count(filter_rows(letters, ~mask), fate_of_others)
        return filter_rows(letters, mask)

    def _patched(self, letters: pa.RecordBatch) -> pa.RecordBatch:
        if self.options.patch is None or not letters.num_rows:
            return letters
        values, failures = apply_patch(self.options.patch, letters, self.judge.topic)
        self._report.patch_failures.update(failures.values())
        has_failed = np.zeros(len(values), np.bool_)
        has_failed[list(failures)] = True
        place = letters.schema.get_field_index("value")
        letters = letters.set_column(place, letters.schema.field(place), pa.array(values, pa.binary()))
        letters = self._keep(letters, ~has_failed, Fate.PATCH_FAILED)
        return self._keep(letters, letters.column("value").is_valid().to_numpy(zero_copy_only=False), Fate.LEFT_OUT)

    def _timed(self, letters: pa.RecordBatch) -> Ready:
        """Give each letter its timestamp: its own, or that of the moment where its topic would not keep its own."""
        keeps_own = self.targets.keep_timestamps(letters) & ~self.options.are_restamped(letters)
        may_go = keeps_own.copy()
        others = np.flatnonzero(~keeps_own)
        for row, texts in zip(others, decoded_texts(letters.take(pa.array(others)), self.judge.topic), strict=True):
            # Where the event time is in the payload, the timestamp may be another.
            may_go[row] = texts is not None and all_formats()[texts["raw_format"] or ""].has_event_time
        ready = self._keep(letters, may_go, Fate.TOO_OLD)
        is_first = first_letters(ready)
        ready = self._keep(ready, is_first, Fate.COPY)
        self._sent.add(ready)
        self._report.count(ready, Fate.SENT)
        own = to_list(ready.column("source_timestamp").cast(pa.int64()))
        stamps = [stamp if keeps else None for stamp, keeps in zip(own, keeps_own[may_go][is_first], strict=True)]
        return Ready(ready, stamps, self._report)

    def _restamped(self, letters: pa.RecordBatch) -> pa.RecordBatch:
        """Return letters as they will be once they are sent: those that get a new timestamp have that of the moment."""
        place = letters.schema.get_field_index("source_timestamp")
        kind = letters.schema.field(place)
        now = pa.scalar(self.targets.now, kind.type)
        stamps = pc.if_else(pa.array(self.options.are_restamped(letters)), now, letters.column(place))
        return letters.set_column(place, kind, stamps)
