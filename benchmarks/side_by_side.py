"""ORION Beam beside other engines that do the same work on the same records.

    python -m benchmarks.side_by_side [--contenders orion,flink-sql] [--rounds 3] [--records 2000000]

Each round runs every contender once, one after the other, on one local Kafka: its topics are made anew, the same
records are put on `cdr.raw.FR`, and the contender starts. All records are there before it starts.

Throughput: from the first record at the sink to the last. CPU: that of the contender's processes and of the broker
while the second half of the records comes out, so that most of the warm-up is left out. Latency: records at a steady
rate follow, see `peers.outputs.latencies_ms`. At the end the output is compared, record by record, with what
`peers.work` makes of the records.

It writes `out/bench/bench.txt`, `.json` and `.svg` after each run. Exit code 1: an output is not as expected, or a
contender failed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from benchmarks.peers.contenders import CONTENDERS, Contender, Setting, report
from benchmarks.peers.outputs import Expected, Output, latencies_ms
from benchmarks.peers.records import TOPIC, Pool, write_reference
from benchmarks.quick import records_out
from benchmarks.report import Machine, Report, Run
from orion_beam.errors import PrerequisiteError, ServiceFailedError
from orion_beam.kafka.admin import admin_client, topic_names
from orion_beam.kafka.offset_ranges import offset_ranges
from orion_beam.runners.jars.build import ensure_jars
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.runners.local.processes import is_alive
from orion_beam.topics.apply import create_topics

OUTPUTS = ("cdr.final", "cdr.dlq")
WARM_UP_S = 3
_TIMEOUT_S = 600.0
_STALL_TIMEOUT_S = 120.0
_LOOK_EVERY_S = 0.1
_LOG_CHARS = 3_000


class ContenderError(Exception):
    """A contender did not do its work."""


class Mark(NamedTuple):
    """What was seen at a moment: records at the sink, and CPU seconds by kind of process."""

    at: float
    records: int
    cpu_s: Mapping[str, float]


class Watch:
    """Observer of a contender: all descendants of this process but the broker, and the broker.

    Attributes:
        memory_mib: Largest resident memory so far, by kind of process.
    """

    def __init__(self, broker: int) -> None:
        """Start at zero."""
        self.memory_mib: dict[str, float] = {}
        self._broker = psutil.Process(broker)
        self._before = _cpu_s(self._broker)
        self._cpu_s: dict[psutil.Process, tuple[str, float]] = {}

    def look(self) -> Mapping[str, float]:
        """Note memory, and return the CPU seconds so far; those of processes that have ended still count."""
        memory: dict[str, float] = defaultdict(float)
        for process in psutil.Process().children(recursive=True):
            if process == self._broker:
                continue
            try:
                kind = "jvm" if process.name() == "java" else "python"
                self._cpu_s[process] = kind, _cpu_s(process)
                memory[kind] += process.memory_info().rss / 2**20
            except psutil.NoSuchProcess:
                continue
        for kind, mib in memory.items():
            self.memory_mib[kind] = max(mib, self.memory_mib.get(kind, 0.0))
        total = {"broker": _cpu_s(self._broker) - self._before, "jvm": 0.0, "python": 0.0}
        for kind, seconds in self._cpu_s.values():
            total[kind] += seconds
        return total


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class Bench:
    """The broker, the records and what they must become.

    Args:
        kafka: The broker, which runs.
        directory: Directory for the runs' files.
        rate: Records a second of the latency part.
        seconds: Length of the latency part; 0 leaves it out.
    """

    def __init__(self, kafka: LocalKafka, directory: Path, rate: int, seconds: int) -> None:
        """Make the records."""
        self._kafka, self._directory = kafka, directory
        self._servers = kafka.bootstrap_servers
        self._rate, self._seconds = rate, seconds
        self._reference = directory / "reference"
        self._reference.mkdir()
        write_reference(self._reference)
        self._pool = Pool(self._reference)
        self._expected = {output: Expected(self._pool, output) for output in Output}

    def run(self, name: str, contender: Contender, number: int, count: int) -> Run:
        """Run a contender once.

        Raises:
            ContenderError: It ends before its records are out, or they are not out in time.
        """
        self._renew_topics()
        times = self._pool.load(self._servers, count)
        group = f"{name}-{number}-{time.time_ns()}"
        directory = self._directory / group
        directory.mkdir()
        out = records_out(self._servers)
        watch = Watch(self._kafka.brokers[0].pid)
        latencies = None
        began = time.monotonic()
        with contender.start(Setting(self._servers, group, self._reference, directory)) as process:
            marks = _await_out(out, count, watch, process)
            if self._seconds and not contender.is_bounded:
                starts = {at.partition: ends.high for at, ends in offset_ranges(self._servers, [TOPIC]).items()}
                times += self._pool.feed(self._servers, self._rate, WARM_UP_S + self._seconds)
                _await_out(out, int(times.sum()), watch, process)
                latencies = latencies_ms(self._servers, starts, WARM_UP_S * self._rate // len(starts))
        first, last = marks[0], marks[-1]
        half = next(mark for mark in marks if mark.records >= count / 2)
        rest = max(1, last.records - half.records)
        cpu_us = {kind: (last.cpu_s[kind] - half.cpu_s[kind]) / rest * 1e6 for kind in last.cpu_s}
        whole = sum(seconds for kind, seconds in last.cpu_s.items() if kind != "broker")
        return Run(
            contender=name,
            round=number,
            records=count,
            cdr_per_s=_rate(first, last),
            warm_cdr_per_s=_rate(half, last),
            cpu_us=cpu_us,
            whole_cpu_us=whole / count * 1e6,
            memory_mib=watch.memory_mib,
            start_s=first.at - began,
            latency_p50_ms=None if latencies is None else float(np.percentile(latencies, 50)),
            latency_p99_ms=None if latencies is None else float(np.percentile(latencies, 99)),
            problems=self._expected[contender.output].problems(self._servers, times),
        )

    def log_of(self, name: str) -> str:
        """Return the end of the log of a contender's last run."""
        *_, last = sorted(self._directory.glob(f"{name}-[0-9]*/contender.log"), key=lambda log: log.stat().st_mtime)
        return last.read_text(errors="replace")[-_LOG_CHARS:]

    def _renew_topics(self) -> None:
        admin = admin_client(self._servers)
        topics = [TOPIC, *OUTPUTS]
        if there := sorted(topic_names(self._servers) & set(topics)):
            for deleted in admin.delete_topics(there).values():
                deleted.result()
        give_up = time.monotonic() + _TIMEOUT_S
        while topic_names(self._servers) & set(topics):
            if time.monotonic() > give_up:
                raise TimeoutError("the broker does not delete the topics")
            time.sleep(_LOOK_EVERY_S)
        create_topics(self._servers, ["FR"])
        of_broker = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, "cdr.final", incremental_configs=[of_broker])
        for changed in admin.incremental_alter_configs([resource]).values():
            changed.result()


def _rate(first: Mark, last: Mark) -> float:
    return (last.records - first.records) / max(last.at - first.at, 1e-9)


def _await_out(out: Callable[[], int], count: int, watch: Watch, process: psutil.Process) -> list[Mark]:
    """Wait until `count` records have come out; return a mark for each growth.

    Raises:
        ContenderError: See `Bench.run`.
    """
    marks: list[Mark] = []
    patience_s, last = _TIMEOUT_S, time.monotonic()
    while not marks or marks[-1].records < count:
        is_running = is_alive(process)
        records, cpu_s, now = out(), watch.look(), time.monotonic()
        if records and (not marks or records > marks[-1].records):
            marks.append(Mark(now, records, cpu_s))
            patience_s, last = _STALL_TIMEOUT_S, now
        if records < count and (not is_running or now > last + patience_s):
            why = f"and no more for {patience_s:.0f} s" if is_running else "when it ended"
            raise ContenderError(f"{records:,} of {count:,} records were out {why}")
        time.sleep(_LOOK_EVERY_S)
    return marks


def prepared(names: Sequence[str]) -> tuple[dict[str, Contender], dict[str, str]]:
    """Build what the contenders need; return those that can run, and the reason of each other one."""
    ready, missing = {}, {}
    for name in names:
        try:
            CONTENDERS[name].prepare()
        except (PrerequisiteError, ServiceFailedError) as error:
            missing[name] = " ".join(str(error).split())
            report(f"{name} is left out: {missing[name]}")
        else:
            ready[name] = CONTENDERS[name]
    return ready, missing


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contenders", default="all", help=f"all, or some of {','.join(CONTENDERS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=2_000_000, help="records of a run; slow contenders get a fifth")
    parser.add_argument("--rate", type=int, default=20_000, help="records a second of the latency part")
    parser.add_argument("--seconds", type=int, default=10, help="length of the latency part; 0 leaves it out")
    parser.add_argument("--output", type=Path, default=Path("out", "bench"), help="directory of the report")
    given = parser.parse_args()
    names = list(CONTENDERS) if given.contenders == "all" else given.contenders.split(",")
    if unknown := sorted(set(names) - set(CONTENDERS)):
        parser.error(f"--contenders: no {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    if given.rounds < 1 or given.records < 1:
        parser.error("--rounds and --records must be at least 1")
    ensure_jars(report)
    ready, missing = prepared(names)
    titles = {name: CONTENDERS[name].title for name in names}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    runs: list[Run] = []
    load: list[float] = []
    with tempfile.TemporaryDirectory() as scratch, LocalKafka(Path(scratch, "kafka")) as kafka:
        report("making the records …")
        bench = Bench(kafka, Path(scratch), given.rate, given.seconds)
        for number in range(1, given.rounds + 1):
            load.append(psutil.getloadavg()[0])
            for name, contender in ready.items():
                if name in missing:
                    continue
                try:
                    run = bench.run(name, contender, number, max(1, given.records // contender.divisor))
                except ContenderError as error:
                    missing[name] = f"round {number}: {error}"
                    report(f"{name} failed: {error}; its log ends:\n{bench.log_of(name)}", markup=False)
                    continue
                runs.append(run)
                equal = "; ".join(run.problems) or "output as expected"
                report(f"round {number}: {name}: {run.cdr_per_s:,.0f} CDR/s, {run.job_cpu_us:.1f} µs of CPU; {equal}")
                summary = Report(Machine.this(date, commit, load), titles, runs, missing)
                summary.write(given.output)
    if not runs:
        sys.exit(1)
    print(summary.table())
    print(f"written to {given.output}: bench.txt, bench.json, bench.svg")
    sys.exit(1 if summary.problems or missing else 0)


if __name__ == "__main__":
    main()
