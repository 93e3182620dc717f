"""Sorter of a redrive: decides which letters are sent, with which payload and timestamp, and why others are not."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.countries import all_profiles
from orion_beam.dlq.filters import break_one_of
from orion_beam.dlq.judge import Judge, decoded_texts
from orion_beam.dlq.references import are
from orion_beam.io.letter_headers import ReadLetters, Reference
from orion_beam.redrive.fates import Fate, FateCount, RedriveReport
from orion_beam.redrive.patches import Patch, apply_patch
from orion_beam.redrive.sent_records import Redriven, SentRecords, first_letters
from orion_beam.redrive.targets import Targets
from orion_beam.schemas.codes import Code
from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.arrow.texts import Mask, to_list
from orion_beam.transforms.decoders.registry import formats_known_to
from orion_beam.transforms.stage.batches import filter_rows


@dataclass(frozen=True)
class RedriveOptions:
    """Options of a redrive.

    Attributes:
        patch: Patch to apply to each record before it is judged, or None.
        patch_name: Description of the patch in the journal; it never contains the value of a field.
        validate: Whether to send only records that today's chain accepts.
        max_attempts: Number of attempts from which a letter is not sent any more.
        records_per_s: Maximum rate of sending; None for no limit.
        again: Whether to send records that a redrive has sent before.
        restamp_reason: Reason why letters with the code `future_timestamp` get the present time as their Kafka
            timestamp; None keeps their own.
        drop_headers: Headers of the source to leave out: names, or patterns with `*`, `?` and `[…]`.
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
        """Return which letters get the present time as their timestamp, because of `restamp_reason`."""
        if self.restamp_reason is None:
            return np.zeros(letters.num_rows, np.bool_)
        return break_one_of(letters, {Code.FUTURE_TIMESTAMP})

    def keeps_header(self, name: str) -> bool:
        """Return whether a header of the source is sent along."""
        return not any(fnmatchcase(name, pattern) for pattern in self.drop_headers)


class Ready(NamedTuple):
    """Letters to send.

    Attributes:
        letters: Letters with their new payloads.
        timestamps_ms: Kafka timestamp of each in epoch milliseconds; None for the time of sending.
        report: Report of all sorted letters. It counts `letters` as sent, so it is true once they are sent.
    """

    letters: pa.RecordBatch
    timestamps_ms: list[int | None]
    report: RedriveReport


@dataclass
class Sorter:
    """Sorter that gives each letter its fate.

    Attributes:
        options: Options of the redrive.
        judge: Judge that decides which records would pass.
        redriven: Records that have been sent before.
        targets: Topics that letters may go to.
    """

    options: RedriveOptions
    judge: Judge
    redriven: Redriven
    targets: Targets
    _sent: SentRecords = field(default_factory=SentRecords, init=False)

    def sort(self, read: ReadLetters) -> Ready:
        """Count the fate of each letter, and return the letters to send."""
        letters = read.letters
        self._report = RedriveReport(letters.num_rows + read.foreign.num_rows)
        if read.foreign.num_rows:
            self._report.outcomes[FateCount(Fate.FOREIGN, "", "")] = read.foreign.num_rows
        # Checked before `redriven`, which by now also has the records that this redrive has sent.
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
        """Give each letter its own timestamp, or the time of sending if its topic would not keep its own."""
        keeps_own = self.targets.keep_timestamps(letters) & ~self.options.are_restamped(letters)
        may_go = keeps_own.copy()
        others = np.flatnonzero(~keeps_own)
        countries = to_list(letters.column("country"))
        for row, texts in zip(others, decoded_texts(letters.take(pa.array(others)), self.judge.topic), strict=True):
            # If the payload has the event time, the Kafka timestamp may change.
            may_go[row] = texts is not None and _has_event_time(texts["raw_format"], all_profiles()[countries[row]])
        ready = self._keep(letters, may_go, Fate.TOO_OLD)
        is_first = first_letters(ready)
        ready = self._keep(ready, is_first, Fate.COPY)
        self._sent.add(ready)
        self._report.count(ready, Fate.SENT)
        own = to_list(ready.column("source_timestamp").cast(pa.int64()))
        stamps = [stamp if keeps else None for stamp, keeps in zip(own, keeps_own[may_go][is_first], strict=True)]
        return Ready(ready, stamps, self._report)

    def _restamped(self, letters: pa.RecordBatch) -> pa.RecordBatch:
        """Return letters with the timestamps that they will have when they are sent."""
        place = letters.schema.get_field_index("source_timestamp")
        kind = letters.schema.field(place)
        now = pa.scalar(self.targets.now, kind.type)
        stamps = pc.if_else(pa.array(self.options.are_restamped(letters)), now, letters.column(place))
        return letters.set_column(place, kind, stamps)


def _has_event_time(raw_format: str | None, profile: CountryProfile) -> bool:
    return formats_known_to(profile)[raw_format or ""].has_event_time
