"""Throughput and latency of the stream on this machine.

    python -m benchmarks.quick [--count 3000000] [--rate 20000] [--seconds 20] [--json] [-- BEAM OPTIONS]

Broker, generator, embedded Flink and Python workers all run on this machine.

Throughput: all CDRs, of four countries and with 2 % faults, are in Kafka before the job starts. The rate counts from
the first CDR that comes out to the last, warm-up included.

Latency: CDRs are produced at a steady rate while the job runs. The latency of a CDR is the time from its Kafka
timestamp on the raw topic to its Kafka timestamp on cdr.final. The first seconds do not count.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # re-exported implicitly
from rich.console import Console

from orion_beam.countries import default_profiles
from orion_beam.kafka.admin import admin_client
from orion_beam.proof.tally import Tally
from orion_beam.runners.jars.build import ensure_jars, guard_environment
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.topics.apply import create_topics

FAULT_RATE = 0.02
WARM_UP_S = 5
_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 300.0
_CHILDREN_TIMEOUT_S = 10.0
_OUTPUT_TOPICS = ("cdr.final", "cdr.dlq")

_console = Console(stderr=True)


def records_out(bootstrap_servers: str) -> Callable[[], int]:
    """Return a function that returns the number of records on the output topics, at almost no cost for the broker."""
    admin = admin_client(bootstrap_servers)
    ends = {
        TopicPartition(topic, partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]
        for topic in _OUTPUT_TOPICS
        for partition in admin.list_topics(topic, timeout=10).topics[topic].partitions
    }
    return lambda: sum(end.result().offset for end in admin.list_offsets(ends, request_timeout=10).values())


def generate(bootstrap_servers: str, *options: str) -> None:
    """Produce raw CDRs of all countries."""
    command = [sys.executable, "-m", "orion_beam.cli.main", "generate", "--bootstrap-servers", bootstrap_servers]
    quiet = {**os.environ, "POLARS_MAX_THREADS": "1"}
    arguments = [*command, "--fault-rate", str(FAULT_RATE), "--seed", "1", *options]
    subprocess.run(arguments, check=True, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def running_job(bootstrap_servers: str, log: Path, beam_options: Sequence[str]) -> Iterator[psutil.Process]:
    """Run the stream while the block runs; yield its process."""
    command = [sys.executable, "-m", "orion_beam.cli.main", "run", "--bootstrap-servers", bootstrap_servers]
    with running([*command, "--", *beam_options], log) as job:
        yield job


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[psutil.Process]:
    """Run a command while the block runs, with its output in a file; yield its process."""
    environment = os.environ | guard_environment()
    with log.open("wb") as output:
        job = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, env=environment)
    process = psutil.Process(job.pid)
    try:
        yield process
    finally:
        children: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            children = process.children(recursive=True)
        job.terminate()
        job.wait(_STOP_TIMEOUT_S)
        # A job of ours ends its processes itself; other engines leave theirs to whoever has started them.
        for child in psutil.wait_procs(children, _CHILDREN_TIMEOUT_S)[1]:
            child.kill()


def workers(job: psutil.Process) -> list[psutil.Process]:
    """Return the Python processes of a job."""
    return [process for process in (job, *job.children(recursive=True)) if "python" in process.name()]


def throughput(count: int, out: Callable[[], int]) -> tuple[float, float]:
    """Wait until all records have come out; return the rate, and the rate without the first tenth of the records."""
    marks: list[tuple[float, int]] = []
    deadline = time.monotonic() + _TIMEOUT_S
    while not marks or marks[-1][1] < count:
        records, now = out(), time.monotonic()
        if records and (not marks or records > marks[-1][1]):
            marks.append((now, records))
        if now > deadline:
            raise TimeoutError(f"only {marks[-1][1] if marks else 0:,} records are out after {_TIMEOUT_S:.0f} s")
        time.sleep(0.1)
    (start, first), (end, last) = marks[0], marks[-1]
    warm_start, warm_first = next(mark for mark in marks if mark[1] >= count / 10)
    return (last - first) / (end - start), (last - warm_first) / (end - warm_start)


def latencies_ms(bootstrap_servers: str, rate: int, seconds: int) -> npt.NDArray[np.int64]:
    """Produce at a steady rate, and return the latencies, in milliseconds, of the records after the warm-up."""
    generate(bootstrap_servers, "--rate", str(rate), "--count", str(rate * WARM_UP_S))
    with Tally(bootstrap_servers, from_beginning=False, keep_latencies=True) as tally:
        generate(bootstrap_servers, "--rate", str(rate), "--count", str(rate * seconds))
        deadline = time.monotonic() + 30
        while (
            sum(tally.account.counts.final.values()) < rate * seconds * (1 - 2 * FAULT_RATE)
            and time.monotonic() < deadline
        ):
            tally.poll(0.5)
        return tally.latencies_ms()


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3_000_000, help="CDRs of the throughput part")
    parser.add_argument("--rate", type=int, default=20_000, help="CDRs a second of the latency part")
    parser.add_argument("--seconds", type=int, default=20, help="length of the latency part")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("beam_options", nargs="*", help="after --: handed to Beam")
    arguments = parser.parse_args()
    ensure_jars(_console.print)
    figures = measure(arguments.count, arguments.rate, arguments.seconds, arguments.beam_options)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:>32}  {figure:>12,.0f}")


def measure(count: int, rate: int, seconds: int, beam_options: Sequence[str]) -> dict[str, float]:
    """Return the figures of one run."""
    with tempfile.TemporaryDirectory() as directory, LocalKafka(Path(directory, "kafka")) as kafka:
        servers = kafka.bootstrap_servers
        create_topics(servers, list(default_profiles()))
        _console.print(f"producing {count:,} CDRs …")
        start = time.monotonic()
        generate(servers, "--count", str(count))
        generated = count / (time.monotonic() - start)
        log = Path(directory, "job.log")
        with running_job(servers, log, beam_options) as job:
            out = records_out(servers)
            _console.print("the job starts …")
            overall, warm = throughput(count, out)
            memory = max(process.memory_info().rss for process in workers(job)) / 2**20
            _console.print(f"{overall:,.0f} CDR/s; now {rate:,} CDR/s for {seconds} s …")
            latencies = latencies_ms(servers, rate, seconds)
    p50, p99 = np.percentile(latencies, [50, 99])
    return {
        "throughput_cdr_per_s": overall,
        "throughput_warm_cdr_per_s": warm,
        "latency_p50_ms": float(p50),
        "latency_p99_ms": float(p99),
        "worker_memory_mib": memory,
        "generator_cdr_per_s": generated,
    }


if __name__ == "__main__":
    main()
