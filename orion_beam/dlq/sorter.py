"""Which dead letters a redrive sends, with which payload and timestamp, and why it leaves the others where they are."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyroaring import BitMap64

from orion_beam.dead_letters import ReadLetters
from orion_beam.dlq.fates import Fate, Outcome, RedriveReport
from orion_beam.dlq.judge import Judge
from orion_beam.dlq.patches import Patch, apply_patch
from orion_beam.dlq.redriven import Redriven
from orion_beam.dlq.targets import Targets
from transforms.batches import rows_of
from transforms.formats import all_formats
from transforms.texts import Mask, to_list


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
        redriven: which letters have been sent before.
        targets: where letters may go.
    """

    options: RedriveOptions
    judge: Judge
    redriven: Redriven
    targets: Targets
    _sent: "_Records" = field(default_factory=lambda: _Records(), init=False)

    def sort(self, read: ReadLetters) -> Ready:
        """Count what stays where it is, by why; return what is to be sent."""
        letters = read.letters
        self._report = RedriveReport(letters.num_rows + read.foreign.num_rows)
        if read.foreign.num_rows:
            self._report.outcomes[Outcome(Fate.FOREIGN, "", "")] = read.foreign.num_rows
        if not self.options.again:
            is_redriven = self.redriven.holds(letters)
            self._sent.add(rows_of(letters, is_redriven))
            letters = self._keep(letters, ~is_redriven, Fate.ALREADY_REDRIVEN)
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
        values, failures = apply_patch(self.options.patch, letters, self.judge.topic)
        self._report.patch_failures.update(failures.values())
        has_failed = np.zeros(len(values), np.bool_)
        has_failed[list(failures)] = True
        place = letters.schema.get_field_index("value")
        letters = letters.set_column(place, letters.schema.field(place), pa.array(values, pa.binary()))
        letters = self._keep(letters, ~has_failed, Fate.PATCH_FAILED)
        return self._keep(letters, letters.column("value").is_valid().to_numpy(zero_copy_only=False), Fate.LEFT_OUT)

    def _timed(self, letters: pa.RecordBatch, formats: list[str | None]) -> Ready:
        """Give each letter its timestamp: its own, but for one that retention would delete before it is read."""
        is_young = self.targets.are_young(letters)
        # Where the event time is in the payload, the timestamp may be another.
        is_free = np.array([name is not None and all_formats()[name].has_event_time for name in formats], np.bool_)
        may_go = is_young | is_free
        own = to_list(letters.column("source_timestamp").cast(pa.int64()))
        stamps = [stamp if young else None for stamp, young in zip(own, is_young, strict=True)]
        ready = self._keep(letters, may_go, Fate.TOO_OLD)
        is_new = self._sent.add(ready)
        ready = self._keep(ready, is_new, Fate.COPY)
        self._report.count(ready, Fate.SENT)
        may_go[may_go] = is_new
        return Ready(ready, [stamp for stamp, goes in zip(stamps, may_go, strict=True) if goes], self._report)


class _Records:
    """Records, by where they came from and how often they had been sent."""

    def __init__(self) -> None:
        self._offsets: defaultdict[tuple[str, int, int], BitMap64] = defaultdict(BitMap64)

    def add(self, letters: pa.RecordBatch) -> Mask:
        """Take in the records of letters; say which of them are new, of letters of one record the first."""
        names = ("source_topic", "source_partition", "attempt", "source_offset")
        columns = [to_list(letters.column(name)) for name in names]
        is_new = np.zeros(letters.num_rows, np.bool_)
        for row, (topic, partition, attempt, offset) in enumerate(zip(*columns, strict=True)):
            held = self._offsets[topic, partition, attempt]
            is_new[row] = offset not in held
            held.add(offset)
        return is_new
