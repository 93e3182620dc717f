"""What a sink that is slower than the source costs, and how soon a job is at full speed when the sink is quick again.

    python -m benchmarks.backpressure [--rate 1000] [--minutes 10] [--json]

FR and TN send seeded CDRs at an even rate to a job of parallelism 1 on a session cluster. After half a minute a quota
of Kafka (`producer_byte_rate`) limits the job's producers for some minutes, then it is taken away. The table shows how
many records wait, the age of the oldest, and the memory of each process. The last lines say how long it took after the
release until the job wrote at full speed, that is at 80 % of its fastest five seconds, and until nothing waited; and
how many of the records that were sent have come out.
"""

import argparse
import json
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.cluster import Sending, producer_of, quota_command, submit, workers
from orion_beam.countries import default_profiles
from orion_beam.proof.tally import Tally
from orion_beam.runners.jars.build import ensure_jars
from orion_beam.runners.local.flink import LocalFlink
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.topics.apply import create_topics

COUNTRIES = ("FR", "TN")
TOPICS = [default_profiles()[code].topic for code in COUNTRIES]
QUOTA_BYTES_S = 40_000
PREPARED = 50_000
"""Records of a country that are sent again and again."""
WARM_UP_S, LOOK_EVERY_S, TICK_S = 30.0, 5.0, 0.05
START_TIMEOUT_S, PATIENCE_S = 600.0, 1_200.0
FULL = 0.8

_console = Console(stderr=True)


@dataclass(frozen=True)
class Look:
    """The system at one moment.

    Attributes:
        at_s: Time since the quota, in seconds; negative before.
        waiting: Records that were sent and have not come out.
        age_s: Age of the oldest of them, in seconds, if records come out in the order in which they were sent.
        out: Records that have come out.
        mebibytes: Resident memory by process, in MiB.
    """

    at_s: float
    waiting: int
    age_s: float
    out: int
    mebibytes: dict[str, int]


def _memory(kafka: LocalKafka, flink: LocalFlink, pool: psutil.Process) -> dict[str, int]:
    held = {
        "JobManager": psutil.Process(flink.job_manager_pid()).memory_info().rss,
        "TaskManager": psutil.Process(flink.task_manager_pid()).memory_info().rss,
        "broker": psutil.Process(kafka.brokers[0].pid).memory_info().rss,
        "largest worker": max(each.memory_info().rss for each in pool.children(recursive=True)),
    }
    return {name: size >> 20 for name, size in held.items()}


def measured(rate: int, minutes: float) -> tuple[list[Look], float]:
    """Run the job, and look every few seconds: before the quota, during it, and until nothing waits.

    Returns:
        The looks; and when the quota was taken away, in seconds since it was set.
    """
    looks: list[Look] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = stack.enter_context(LocalKafka(directory / "kafka"))
        servers = kafka.bootstrap_servers
        create_topics(servers, list(COUNTRIES))
        flink = stack.enter_context(LocalFlink(directory / "flink", slots=2))
        address = stack.enter_context(workers(directory))
        (pool,) = (each for each in psutil.Process().children() if "workers" in each.cmdline())
        submit(servers, flink, address, "--countries", ",".join(COUNTRIES))
        producer = producer_of(servers)
        tally = stack.enter_context(Tally(servers))
        feeds = [Sending(producer, code, PREPARED, seed) for seed, code in enumerate(COUNTRIES)]
        began = time.monotonic()
        sent_by: list[tuple[float, int]] = []

        def look(since: float) -> Look:
            tally.poll(0)
            now, sent = time.monotonic(), sum(feed.sent for feed in feeds)
            out = sum(tally.account.accounted(TOPICS).values())
            sent_by.append((now, sent))
            oldest = next(moment for moment, before in sent_by if before >= out)
            return Look(now - since, sent - out, now - oldest, out, _memory(kafka, flink, pool))

        def run(seconds: float, since: float) -> None:
            looked = time.monotonic()
            until = looked + seconds
            while (now := time.monotonic()) < until:
                for feed in feeds:
                    feed.send(round((now - began) * rate))
                producer.poll(0)
                tally.poll(TICK_S)
                if now >= looked + LOOK_EVERY_S:
                    looked = now
                    looks.append(look(since))
                    _console.print(asdict(looks[-1]))

        def alter(since: float, *change: str) -> float:
            """Change a quota of producers while the feed goes on; return when it is changed."""
            command = quota_command(servers, *change)
            with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL) as change_of_quota:
                while change_of_quota.poll() is None:
                    run(TICK_S, since)
            if change_of_quota.returncode:
                raise RuntimeError(f"kafka.admin.ConfigCommand ended with {change_of_quota.returncode}")
            return time.monotonic()

        while sum(tally.account.accounted(TOPICS).values()) < rate:
            if time.monotonic() > began + START_TIMEOUT_S:
                raise RuntimeError("the job has not begun to write")
            run(1, began)
        run(WARM_UP_S, time.monotonic() + WARM_UP_S)
        alter(time.monotonic(), "--entity-name", "feed", "--add-config", f"producer_byte_rate={1 << 30}")
        limited = alter(time.monotonic(), "--entity-default", "--add-config", f"producer_byte_rate={QUOTA_BYTES_S}")
        run(60 * minutes, limited)
        released = alter(limited, "--entity-default", "--delete-config", "producer_byte_rate")
        looks.append(look(limited))
        while looks[-1].waiting > rate and time.monotonic() < released + PATIENCE_S:
            run(LOOK_EVERY_S + 2 * TICK_S, limited)
        producer.flush()
        while look(limited).waiting and time.monotonic() < released + 2 * PATIENCE_S:
            tally.poll(TICK_S)
        looks.append(look(limited))
    return looks, released - limited


def summary(looks: list[Look], released_s: float) -> dict[str, object]:
    """Return the figures of a run.

    Args:
        looks: All looks, in their order.
        released_s: When the quota was taken away, in seconds since it began.
    """
    after = [each for each in looks if each.at_s >= released_s]
    rates = [(b.at_s, (b.out - a.out) / (b.at_s - a.at_s)) for a, b in zip(after[:-1], after[1:], strict=True)]
    fastest = max(rate for _, rate in rates)
    slow = [each for each in looks if 0 <= each.at_s < released_s]
    return {
        "records": looks[-1].out + looks[-1].waiting,
        "missing": looks[-1].waiting,
        "most waiting": max(each.waiting for each in looks),
        "records/s when slow": round((slow[-1].out - slow[0].out) / (slow[-1].at_s - slow[0].at_s)),
        "records/s at most after": round(fastest),
        "s to full speed": round(next(at for at, rate in rates if rate >= FULL * fastest) - released_s, 1),
        "s until nothing waits": round(looks[-1].at_s - released_s, 1),
        "MiB at most": {name: max(each.mebibytes[name] for each in looks) for name in looks[0].mebibytes},
    }


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1_000, help="CDRs a second of each of two countries")
    parser.add_argument("--minutes", type=float, default=10, help="how long the sink is slow")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    ensure_jars(_console.print)
    looks, released_s = measured(arguments.rate, arguments.minutes)
    figures = summary(looks, released_s)
    if arguments.json:
        print(json.dumps(figures | {"looks": [asdict(each) for each in looks]}))
        return
    shown = Table("after", "waiting", "age of the oldest", *looks[0].mebibytes)
    every_minute = {round(each.at_s // 60): each for each in reversed(looks)}
    for each in [*reversed(every_minute.values()), looks[-1]]:
        sizes = (f"{size} MiB" for size in each.mebibytes.values())
        shown.add_row(f"{each.at_s:.0f} s", f"{each.waiting:,}", f"{each.age_s:.0f} s", *sizes)
    console = Console(width=120)
    console.print(shown)
    for name, value in figures.items():
        console.print(f"{name}: {value}")


if __name__ == "__main__":
    main()
