"""One run: harms by the schedule, after each the wait for recovery, and the proof at the end."""

import os
import time
import traceback
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pyroaring import BitMap64

from orion_beam.kafka.offset_ranges import SourcePartition
from tests.chaos.feed import COUNTRIES
from tests.chaos.harms import Harm
from tests.chaos.report import Met, Outcome
from tests.chaos.schedule import schedule
from tests.chaos.system import PATIENCE_S, System, described, processes_of_run
from tests.integration.harness import await_until

CALM_S = 12.0
"""Time that the system must stay well until it counts as recovered: longer than any failure goes unnoticed."""
MOST_LAG_S = 5.0
"""Age of the oldest record that has not come out that counts as none: batches, a busy machine."""
RECOVERY_LIMIT_S = 600.0

_LOOK_EVERY_S = 0.25
_TELL_EVERY_S = 30.0


def run(
    directory: Path, seed: int, rate: int, minutes: float, *, harms: int | None = None, only: Sequence[str] = ()
) -> Outcome:
    """Do harm for a while, and return what came of it.

    Args:
        directory: Empty directory for everything.
        seed: Seed of the schedule and of the records.
        rate: Records per second of each country.
        minutes: How long to begin new harms.
        harms: Most harms; None: as many as there is time for.
        only: Kinds of harm; by default all.
    """
    outcome = Outcome(seed, rate * len(COUNTRIES))
    with System(directory, seed, rate) as system:
        marks: list[dict[SourcePartition, int]] = []
        began = time.monotonic()
        _await_calm(system, time.monotonic(), [])
        before = len(system.processes)
        for number, harm in enumerate(islice(schedule(seed, only), harms), start=1):
            if time.monotonic() > began + 60 * minutes:
                break
            if reason := harm.impossible(system):
                outcome.skipped[harm.kind] = reason
                continue
            met = Met(number, harm.kind, harm.target, time.monotonic() - began)
            outcome.met.append(met)
            marks.append({part: len(offsets) for part, offsets in system.feed.sent().items()})
            if not _meet(system, harm, met):
                outcome.problems.append(system.why_ended())
                break
        after = len(system.processes)
        if after > before + 2:
            outcome.problems.append(f"{after} processes at the end, {before} at the beginning")
        _prove(system, outcome, marks)
        outcome.problems += [f"crashed: {line}" for line in system.crashes()]
        outcome.minutes = (time.monotonic() - began) / 60
        outcome.load = os.getloadavg()[2]
    outcome.problems += [
        f"left behind: {described(process)}" for process in processes_of_run() if process.pid != os.getpid()
    ]
    outcome.problems += [f"left behind: {path}" for path in (directory / "tmp").iterdir()]
    return outcome


def _meet(system: System, harm: Harm, met: Met) -> bool:
    """Do one harm, and wait for recovery. Return whether it came."""
    with system.proof.lock:
        duplicates, early = system.proof.findings.duplicates, system.proof.findings.too_early
    try:
        committed = system.committed()
        with system.proof.lock:
            system.proof.findings.set_floor(committed)
        system.say(f"harm {met.number}: {harm}")
        harm.cause(system)
        if harm.lasts_s:
            time.sleep(harm.lasts_s)
        ended = time.monotonic()
        harm.undo(system)
        met.recovery_s = round(_await_calm(system, ended, met.ended) - ended, 1)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is told, and the next harm is tried
        met.problems.append(f"{type(error).__name__}: {error}")
        met.recovery_s = RECOVERY_LIMIT_S
        traceback.print_exc()
        return _mended(system)
    finally:
        met.target = harm.target
    with system.proof.lock:
        met.duplicates = system.proof.findings.duplicates - duplicates
        early = system.proof.findings.too_early - early
    if early:
        met.problems.append(f"{early} records came out again that had been committed before")
    system.say(f"  recovered after {met.recovery_s:.1f} s, {met.duplicates} duplicates")
    return True


def _mended(system: System) -> bool:
    """Bring the system back by hand, and return whether that has worked."""
    try:
        for proxy in system.proxies:
            proxy.recover()
        system.supervise()
        system.ensure_job()
        _await_calm(system, time.monotonic(), [])
    except Exception:  # noqa: BLE001  # the run ends, and what it has found is told
        traceback.print_exc()
        return False
    return True


def _await_calm(system: System, since: float, ended: list[str]) -> float:
    """Wait until records of every country come out without lag and go on to; return when that began.

    Meanwhile, what has ended by itself is started again, and entered in `ended`.
    """
    give_up, tell = since + RECOVERY_LIMIT_S, time.monotonic() + _TELL_EVERY_S
    calm_since = None
    while calm_since is None or time.monotonic() < calm_since + CALM_S:
        system.proof.check()
        ended.extend(system.supervise())
        lag_s = max(system.lag_s(), system.feed.backlog_s())
        if lag_s > MOST_LAG_S:
            calm_since = None
        elif calm_since is None:
            calm_since = time.monotonic()
        if calm_since is not None and time.monotonic() >= calm_since + CALM_S and not system.is_whole():
            calm_since = time.monotonic()
        if time.monotonic() > tell:
            tell = time.monotonic() + _TELL_EVERY_S
            system.say(f"  after {time.monotonic() - since:.0f} s: {system.what_waits()}")
        assert time.monotonic() < give_up, f"not within {RECOVERY_LIMIT_S:.0f} s, the lag is {lag_s:.0f} s"
        time.sleep(_LOOK_EVERY_S)
    return calm_since


def _prove(system: System, outcome: Outcome, marks: list[dict[SourcePartition, int]]) -> None:
    """Stop the feed, wait until all is out, and compare."""
    system.say("the proof")
    system.feed.stop()
    sent, rejects, held = system.feed.sent(), system.feed.rejects(), system.feed.sent()
    outcome.sent = sum(map(len, sent.values()))
    for part, low in system.deleted.items():
        held[part].remove_range(0, low)
    try:
        await_until(
            lambda: not any(system.missing().values()) and system.proof.caught_up(),
            PATIENCE_S if not outcome.problems else 60,
            "everything has come out",
        )
    except AssertionError as error:
        outcome.problems.append(str(error))
    findings = system.proof.findings
    for part, offsets in sorted(system.missing().items()):
        outcome.lost += len(offsets)
        for offset in offsets:
            _blame(outcome, marks, part, offset)
    with system.proof.lock:
        for part, offsets in sorted(sent.items()):
            outcome.deleted += len(offsets - held[part] - findings.came_out(part))
            wrong = (offsets - rejects.get(part, BitMap64())) & findings.dead_letters.get(part, BitMap64())
            wrong |= rejects.get(part, BitMap64()) & findings.final.get(part, BitMap64())
            if wrong:
                outcome.problems.append(f"{part}: {len(wrong)} records came out on the wrong topic")
        outcome.final = sum(map(len, findings.final.values()))
        outcome.dead_letters = sum(map(len, findings.dead_letters.values()))
        outcome.duplicates, outcome.disorder = findings.duplicates, findings.disorder
        if findings.foreign:
            outcome.problems.append(f"{findings.foreign} records on cdr.final and cdr.dlq cannot be read")
        outcome.problems += findings.examples
    if outcome.lost:
        outcome.problems.append(f"{outcome.lost} records are lost")
    if outcome.disorder:
        outcome.problems.append(f"{outcome.disorder} records are out of order")
    audited, records = system.audit(), sum(map(len, held.values()))
    if audited["missing"] or audited["in_both"] or audited["records"] != records:
        outcome.problems.append(f"audit of {records} records: {audited}")


def _blame(outcome: Outcome, marks: list[dict[SourcePartition, int]], part: SourcePartition, offset: int) -> None:
    """Count a record that is lost to the last harm before which it was sent."""
    for met, mark in zip(reversed(outcome.met), reversed(marks), strict=True):
        if mark.get(part, 0) <= offset:
            met.lost += 1
            return
