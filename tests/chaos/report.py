"""The end of a run: a table for people, JSON for programs."""

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Met:
    """A harm that was done.

    Attributes:
        number: Place in the schedule, from 1.
        kind: Kind of harm.
        target: What was harmed.
        began: Seconds since the run's first record.
        recovery_s: Seconds from the harm's end until records of every country came out again without lag, and kept to.
        duplicates: Records that came out again because of it.
        lost: Records that were sent from this harm on until the next one, and have not come out.
        ended: Processes that have ended by themselves, and were started again.
        problems: What was not as it must be, in words.
    """

    number: int
    kind: str
    target: str
    began: float
    recovery_s: float = 0.0
    duplicates: int = 0
    lost: int = 0
    ended: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """All of a run.

    Attributes:
        seed: Seed of the schedule and of the records.
        rate: Records per second of all countries.
        met: Harms that were done.
        skipped: Kinds that this machine cannot do, with the reason.
        sent: Records that brokers acknowledged to the feed.
        final: Distinct sources on cdr.final.
        dead_letters: Distinct sources on cdr.dlq.
        duplicates: Records that came out again.
        lost: Records that have not come out.
        deleted: Records among them that a harm has deleted before they were read.
        disorder: Records that came out in the wrong order.
        problems: What was not as it must be at the end, in words.
        load: Load average of the machine at the end.
    """

    seed: int
    rate: int
    minutes: float = 0.0
    met: list[Met] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    final: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    lost: int = 0
    deleted: int = 0
    disorder: int = 0
    problems: list[str] = field(default_factory=list)
    load: float = 0.0

    @property
    def all_problems(self) -> list[str]:
        """Problems of the run and of its harms."""
        return [*(f"{one.number} {one.kind}: {text}" for one in self.met for text in one.problems), *self.problems]

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def table(self) -> str:
        """Return a table of the kinds of harm, and the figures of the run below it.

        `worth s` is the largest number of duplicates of one harm, as seconds of the feed.
        """
        lines = [f"{'harm':26} {'times':>5} {'p50 s':>6} {'max s':>6} {'duplicates':>10} {'worth s':>7} {'lost':>5}"]
        for kind in sorted({one.kind for one in self.met}):
            lines.append(self._row(kind, [one for one in self.met if one.kind == kind]))
        if self.met:
            lines.append(self._row("all", self.met))
        lines.append(
            f"{self.sent:,} records sent, {self.final:,} on cdr.final, {self.dead_letters:,} on cdr.dlq, "
            f"{self.duplicates:,} duplicates, {self.lost:,} lost, {self.deleted:,} deleted unread, "
            f"{self.disorder:,} out of order"
        )
        lines.extend(f"not done: {kind}: {reason}" for kind, reason in self.skipped.items())
        lines.extend(f"problem: {problem}" for problem in self.all_problems)
        return "\n".join(lines)

    def _row(self, name: str, met: list[Met]) -> str:
        times = [one.recovery_s for one in met]
        duplicates, lost = sum(one.duplicates for one in met), sum(one.lost for one in met)
        worth_s = max(one.duplicates for one in met) / self.rate
        recovery = f"{statistics.median(times):6.1f} {max(times):6.1f}"
        return f"{name:26} {len(met):5} {recovery} {duplicates:10,} {worth_s:7.1f} {lost:5,}"
