"""What a country that misbehaves costs the other three: as one job over four countries, and as four jobs.

    python -m benchmarks.isolation [--rate 500] [--seconds 20] [--case flood …] [--mode one four] [--quota N] [--json]

FR, MA and TN send seeded CDRs with 2 % faults at an even rate, the same in each case. Meanwhile SN sends what the case
says. The cases follow each other on the same jobs, as far as a job lives on; Kafka, a Flink cluster and its workers are
on this machine. Each is compared with the case `undisturbed` of the same mode, in which SN sends what the others do.

For the three countries the table shows which part of their records came out before the feed ended, the p99 of the time
from the raw topic to cdr.final, and whether all of their records came out as in the undisturbed case: the same CDRs
and dead letters, but for times. Copies after a restart count once.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition
from rich.console import Console
from rich.table import Table

from benchmarks.cluster import Sending, producer_of, quota_command, submit, workers
from orion_beam.countries import default_profiles
from orion_beam.kafka.offset_ranges import offset_ranges
from orion_beam.proof.tally import Tally
from orion_beam.runners.jars.build import ensure_jars
from orion_beam.runners.local.flink import LocalFlink
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.topics.apply import create_topics

CALM, WILD = ("FR", "MA", "TN"), "SN"
WILD_CLIENT = "wild"
"""Client id of SN's producer, which a quota is for."""
MODES = {"one": (), "four": ("--split-by-country",)}
CASES = {
    "undisturbed": "what the others send",
    "nothing": "nothing",
    "garbage": "100 % garbage, at the rate of the others",
    "flood": "100 % garbage, as fast as it can",
    "large": "payloads of 1 MiB, as fast as it can",
    "one raises": "what the others send, and a record a second for which a stage raises",
    "all raise": "records for which a stage raises",
    "hangs": "a record for which a stage does not return",
}
RAISES, HANGS = "60898", "60899"
LAST = ("all raise", "hangs")
"""Cases after which SN's partitions stand still for good, so that nothing can follow on the same job."""
GARBAGE_BYTES = 100
WARM_UP_S = 5
PATIENT = {"broker.session.timeout.ms": "60000"}
"""A flooded machine lets the one broker wait for its own heartbeats, and then nothing leads its partitions."""
START_TIMEOUT_S = 600.0
PATIENCE_S = 240.0
"""Time after the feed in which the three countries' records may still come out."""
MOST_WILD_BYTES = 1 << 30
"""What SN sends at most: its topic is on this machine's disk."""
TICK_S = 0.05

JOB = """\
version: 1
countries: [FR, MA, SN, TN]
stages:
  - {name: probe, after: validate, time_limit: 10s}
"""
STAGE = f"""\
import threading
import pyarrow.compute as pc
from orion_beam.custom_stages import split

def probe(batch):
    imsi = batch.column("imsi")
    if pc.any(pc.starts_with(imsi, "{RAISES}")).as_py():
        raise ValueError("a bug")
    if pc.any(pc.starts_with(imsi, "{HANGS}")).as_py():
        threading.Event().wait()
    return split(batch)
"""

TOPICS = [default_profiles()[code].topic for code in CALM]
_PASSING = {"orion.source.offset", "orion.source.timestamp", "orion.failed_at"}
"""Headers of a dead letter that differ from one sending of a record to the next."""
_OF_EVENT_TIME = ("event_time", "event_date", "event_hour", "cdr_id")
"""Fields that differ from one sending of a record to the next if the record has no time of its own."""

_console = Console(stderr=True)


@dataclass(frozen=True)
class Outcome:
    """Figures of a case.

    Attributes:
        mode: One job, or four.
        case: What SN sends.
        in_time: Part of the three countries' records that came out before the feed ended.
        p99_ms: p99 of their time from the raw topic to cdr.final, over those that came out.
        missing: Records of theirs that did not come out.
        restarts: Restarts of all jobs.
        wild_records: Records that SN sent.
        digest: Hash of what came out for the three countries, without times.
        is_same: Whether it is what the undisturbed case gave.
        slower: p99 as a multiple of that of the undisturbed case.
    """

    mode: str
    case: str
    in_time: float
    p99_ms: float
    missing: int
    restarts: int
    wild_records: int
    digest: str
    is_same: bool = True
    slower: float = 1.0


def _cdr(imsi: str) -> bytes:
    record = {"event_type": "sms", "imsi": imsi, "msisdn": "+221771234567", "timestamp": "2026-06-01T10:00:00Z"}
    return json.dumps(record).encode()


def wild(case: str, servers: str, seconds: float, rate: int) -> int:
    """Send what SN sends in a case, for so many seconds; return the number of records."""
    producer, topic = producer_of(servers, WILD_CLIENT), default_profiles()[WILD].topic
    # Incompressible, as far as text can be, so that no compression makes it small.
    noise = os.urandom(1 << 19).hex().encode()
    before = _records_on(servers, topic)
    if case in ("flood", "large"):
        size = 1 << 20 if case == "large" else GARBAGE_BYTES
        sent, ends_at = 0, time.monotonic() + seconds
        while time.monotonic() < ends_at and sent * size < MOST_WILD_BYTES:
            try:
                producer.produce(
                    topic, noise[:size] if size == len(noise) else noise[sent % 4_000 :][:size], b"%d" % sent
                )
                sent += 1
            except BufferError:
                producer.poll(0.05)
        # With a quota, what waits here would take many minutes.
        producer.purge(in_flight=False)
        producer.flush(PATIENCE_S)
        return _records_on(servers, topic) - before
    is_like_others = case in ("undisturbed", "one raises")
    sending = Sending(producer, WILD, round(seconds * rate), 9)
    began, others = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        sending.send(round(passed * rate) if is_like_others else 0)
        wanted = {"garbage": passed * rate, "one raises": passed, "all raise": passed * rate, "hangs": 1}.get(case, 0)
        while others < round(wanted):
            imsi = f"{HANGS if case == 'hangs' else RAISES}{others:010d}"
            value = noise[others:][:GARBAGE_BYTES] if case == "garbage" else _cdr(imsi)
            producer.produce(topic, value, imsi.encode())
            others += 1
        producer.poll(0)
        time.sleep(TICK_S)
    producer.flush(PATIENCE_S)
    return _records_on(servers, topic) - before


def _records_on(servers: str, topic: str) -> int:
    return sum(held.high for held in offset_ranges(servers, [topic]).values())


def _await(tally: Tally, topics: Sequence[str], records: int, seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    while sum(tally.account.accounted(topics).values()) < records:
        if time.monotonic() > give_up:
            return False
        tally.poll(0.2)
    return True


def _messages(servers: str, topic: str) -> Iterator[Message]:
    ends = {part: held for part, held in offset_ranges(servers, [topic]).items() if held.low < held.high}
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "isolation", "enable.auto.commit": False})
    consumer.assign([TopicPartition(part.topic, part.partition, OFFSET_BEGINNING) for part in ends])
    left = {part.partition: held.high for part, held in ends.items()}
    while left:
        for message in consumer.consume(10_000, 1.0):
            if message.error():
                raise RuntimeError(str(message.error()))
            yield message
            if (message.offset() or 0) + 1 >= left.get(message.partition() or 0, 1 << 62):
                del left[message.partition() or 0]
    consumer.close()


def _came_out(
    servers: str, first: Mapping[tuple[str, int], int], ended_ms: int
) -> tuple[dict[bytes, list[bytes]], list[int], int]:
    """Return what has come out of the records from the first offsets on.

    Returns:
        What came out by key, in the order of the source, without times and offsets; the latencies of CDRs in
        milliseconds; and how many records came out before a time.
    """
    schema = fastavro.parse_schema(json.loads(avro_schema(UnifiedCdr)))
    out: dict[tuple[str, int, int], tuple[bytes, bytes]] = {}
    latencies_ms, in_time = [], 0

    def is_new(topic: str, partition: int, offset: int) -> bool:
        return offset >= first.get((topic, partition), 1 << 62) and (topic, partition, offset) not in out

    for message in _messages(servers, "cdr.final"):
        cdr: Any = fastavro.schemaless_reader(BytesIO((message.value() or b"")[10:]), schema, None)
        source = (cdr["source_topic"], cdr["source_partition"], cdr.pop("source_offset"))
        if is_new(*source):
            arrived = cdr.pop("source_timestamp")
            latencies_ms.append(message.timestamp()[1] - round(arrived.timestamp() * 1000))
            if cdr["event_time"] == arrived:
                for name in _OF_EVENT_TIME:
                    del cdr[name]
            in_time += message.timestamp()[1] <= ended_ms
            out[source] = (message.key() or b"", repr(sorted(cdr.items())).encode())
    for message in _messages(servers, "cdr.dlq"):
        headers: dict[str, bytes] = dict(message.headers() or [])  # type: ignore[arg-type]
        topic, partition, offset = (headers[f"orion.source.{name}"] for name in ("topic", "partition", "offset"))
        source = (topic.decode(), int(partition), int(offset))
        if is_new(*source):
            in_time += message.timestamp()[1] <= ended_ms
            lasting = sorted((name, text) for name, text in headers.items() if name not in _PASSING)
            out[source] = (message.key() or b"", repr((message.value(), lasting)).encode())
    by_key: dict[bytes, list[bytes]] = defaultdict(list)
    for _, (key, text) in sorted(out.items()):
        by_key[key].append(text)
    return by_key, latencies_ms, in_time


def measured(mode: str, cases: Sequence[str], rate: int, seconds: int, quota: int | None) -> Iterator[Outcome]:
    """Run cases one after the other on one job, or one for each country, and yield their figures.

    Args:
        mode: One job, or four.
        cases: What SN sends, case by case.
        rate: CDRs a second of each of the other three.
        seconds: Length of a case.
        quota: Bytes a second that the broker takes from SN; None for no limit.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workspace = directory / "workspace"
        (workspace / "stages").mkdir(parents=True)
        (workspace / "orion.yaml").write_text(JOB)
        (workspace / "stages" / "probe.py").write_text(STAGE)
        servers = stack.enter_context(LocalKafka(directory / "kafka", settings=PATIENT)).bootstrap_servers
        create_topics(servers, list(default_profiles()))
        if quota:
            of_wild = ["--entity-name", WILD_CLIENT, "--add-config", f"producer_byte_rate={quota}"]
            subprocess.run(quota_command(servers, *of_wild), check=True, stdout=subprocess.DEVNULL, cwd=directory)
        flink = stack.enter_context(LocalFlink(directory / "flink", slots=4))
        pool = stack.enter_context(workers(directory))
        submit(servers, flink, pool, *MODES[mode], workspace=workspace)
        producer = producer_of(servers)
        tally = stack.enter_context(Tally(servers))
        sent = 0
        for case in ("warm-up", *cases):
            length = WARM_UP_S if case == "warm-up" else seconds
            calm = [Sending(producer, code, rate * length, seed) for seed, code in enumerate(CALM)]
            first = {(part.topic, part.partition): held.high for part, held in offset_ranges(servers, TOPICS).items()}
            began, restarts = time.monotonic(), _restarts(flink)
            call = ["--wild", case, "--servers", servers, "--seconds", str(seconds), "--rate", str(rate)]
            sender = None
            if case != "warm-up":
                command = [sys.executable, "-m", "benchmarks.isolation", *call]
                sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            while (passed := time.monotonic() - began) < length:
                for each in calm:
                    each.send(round(passed * rate))
                producer.poll(0)
                time.sleep(TICK_S)
            for each in calm:
                each.send(rate * length)
            producer.flush(PATIENCE_S)
            ended_ms = round(time.time() * 1000)
            wild_records = 0 if sender is None else int(sender.communicate()[0])
            of_case = sum(each.sent for each in calm)
            sent += of_case
            _await(tally, TOPICS, sent, START_TIMEOUT_S if case == "warm-up" else PATIENCE_S)
            if case == "warm-up":
                continue
            out, latencies_ms, in_time = _came_out(servers, first, ended_ms)
            digest = hashlib.sha256(b"".join(sorted(b"".join(values) for values in out.values())))
            yield Outcome(
                mode=mode,
                case=case,
                in_time=in_time / of_case,
                p99_ms=float(np.percentile(latencies_ms, 99)) if latencies_ms else float("inf"),
                missing=of_case - sum(map(len, out.values())),
                restarts=_restarts(flink) - restarts,
                wild_records=wild_records,
                digest=digest.hexdigest(),
            )


def _restarts(flink: LocalFlink) -> int:
    jobs = flink.rest.get("jobs/overview")["jobs"]
    found = [flink.rest.get(f"jobs/{job['jid']}/metrics?get=numRestarts") for job in jobs]
    return sum(int(metrics[0]["value"]) for metrics in found if metrics)


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return the figures as a table."""
    shown = Table("mode", "SN sends", "in time", "p99", "times undisturbed", "output", "restarts", "records of SN")
    for one in outcomes:
        same = "the same" if one.is_same else f"{one.missing:,} missing" if one.missing else "other"
        shown.add_row(
            *(one.mode, CASES[one.case], f"{one.in_time:.0%}", f"{one.p99_ms:,.0f} ms", f"{one.slower:.1f}", same),
            *(f"{one.restarts}", f"{one.wild_records:,}"),
        )
    return shown


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=500, help="CDRs a second of each of the three countries")
    parser.add_argument("--seconds", type=int, default=20, help="length of a case")
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES), help="cases to run")
    parser.add_argument("--mode", nargs="+", choices=list(MODES), default=list(MODES), help="one job, four jobs")
    parser.add_argument("--quota", type=int, help="bytes a second that the broker takes from SN (producer_byte_rate)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--wild", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--servers", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.wild:
        print(wild(arguments.wild, arguments.servers, arguments.seconds, arguments.rate))
        return
    ensure_jars(_console.print)
    outcomes: list[Outcome] = []
    for mode in arguments.mode:
        calm: Outcome | None = None
        wanted = list(dict.fromkeys(("undisturbed", *arguments.case)))
        gentle = [case for case in wanted if case not in LAST]
        final = [case for case in wanted if case in LAST]
        # The first case that breaks a job follows the others on theirs; each further one has a job of its own.
        for cases in ([*gentle, *final[:1]], *([case] for case in final[1:])):
            for found in measured(mode, cases, arguments.rate, arguments.seconds, arguments.quota):
                calm = calm or found
                one = replace(found, is_same=found.digest == calm.digest, slower=found.p99_ms / calm.p99_ms)
                _console.print(asdict(one))
                outcomes.append(one)
    if arguments.json:
        print(json.dumps([asdict(one) for one in outcomes]))
    else:
        Console(width=160).print(table(outcomes))


if __name__ == "__main__":
    main()
