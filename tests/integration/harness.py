"""Parts of integration tests: jobs as child processes, feeds of CDRs, and readers of topics."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import fastavro
import psutil
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import BaseModel

from orion_beam.countries import all_profiles
from orion_beam.generator import generate_batches
from orion_beam.kafka.admin import admin_client
from orion_beam.kafka.lease import Holder, Lease
from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition, group_offsets, offset_ranges, read_ranges
from orion_beam.proof.tally import Tally
from orion_beam.runners.jars.build import guard_environment
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.runners.local.processes import is_alive
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from orion_beam.topics.apply import apply_changes, create_topics
from orion_beam.topics.cluster_state import describe_cluster
from orion_beam.topics.plan import ChangeKind, TopicChange
from orion_beam.workspace import WORKSPACE_VARIABLE
from tests.topics import DEAD_LETTERS, FINAL, raw_topic

FREQUENT_CHECKPOINTS = "--checkpointing_interval=1000"
QUICK_TO_MISS = ("--consumer-config", "session.timeout.ms=6000")
"""Options that make Kafka drop the lease of a killed job after 6 s."""
START_TIMEOUT_S = 600.0
"""Longest wait for a job's first record: a job starts two JVMs, and machines differ in speed."""
STOP_TIMEOUT_S = 600.0
READ_TIMEOUT_S = 600.0

T = TypeVar("T")

_LOOK_EVERY_S = 0.1
_LONGEST_LOOK_S = 60.0
_LOG_TAIL_LINES = 60


def await_until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait until `condition` is truthy.

    When the machine stands still between two looks, a minute of that counts at most.

    Raises:
        AssertionError: The wait takes longer than `timeout_s`. The message names `what`.
    """
    waited_s, looked_at = 0.0, time.monotonic()
    while not condition():
        assert waited_s < timeout_s, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(_LOOK_EVERY_S)
        now = time.monotonic()
        waited_s += min(now - looked_at, _LONGEST_LOOK_S)
        looked_at = now


class Source(NamedTuple):
    """Position of a record: its topic, partition and offset."""

    topic: str
    partition: int
    offset: int


class Record(NamedTuple):
    """A record that was read from Kafka."""

    source: Source
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int

    @property
    def partition(self) -> int:
        """Partition of the record."""
        return self.source.partition

    @property
    def payload(self) -> bytes:
        """Value of the record, which must not be null."""
        assert self.value is not None
        return self.value

    def header(self, name: str) -> str:
        """Return the text of the header of a name; there must be exactly one."""
        (value,) = [value for key, value in self.headers if key == name]
        assert value is not None
        return value.decode()


class Job:
    """A child process of `orion-beam run`, in a session of its own, with its output in a file."""

    def __init__(
        self,
        log: Path,
        servers: str,
        *arguments: str,
        beam: Sequence[str] = (),
        workspace: Path | None = None,
        module: str = "orion_beam.cli.main",
    ) -> None:
        self.log_file = log
        named = {} if workspace is None else {WORKSPACE_VARIABLE: str(workspace)}
        self._seen: dict[int, psutil.Process] = {}
        command = [sys.executable, "-m", module, "run", "--bootstrap-servers", servers, *arguments]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, "--", *beam],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | guard_environment() | named,
            )
        self._handle = psutil.Process(self._process.pid)

    @property
    def log(self) -> str:
        """Text that the job has printed so far."""
        return self.log_file.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether the job has not ended. Each call also notes the processes that the job has started."""
        self._note_children()
        return self._process.poll() is None

    @property
    def jvms(self) -> list[psutil.Process]:
        """Java processes of the job that run now."""
        self._note_children()
        return [child for child in self._seen.values() if is_alive(child) and child.name() == "java"]

    @property
    def workers(self) -> list[psutil.Process]:
        """Python processes of the job that run now, besides itself: the workers of embedded Flink."""
        self._note_children()
        return [child for child in self._seen.values() if is_alive(child) and child.name().startswith("python")]

    @property
    def remains(self) -> list[str]:
        """Process id and name of the job and of the processes that it has started, as far as they still run."""
        self._note_children()
        own = [] if self._process.poll() is not None else [self._handle]
        return [f"{one.pid} {one.name()}" for one in (*own, *self._seen.values()) if is_alive(one)]

    def await_until(self, condition: Callable[[], object], timeout_s: float, what: str) -> None:
        """Wait until `condition` is truthy; fail when the job ends before that."""

        def holds() -> bool:
            assert self.is_running, f"the job ended with exit code {self._process.returncode} before {what}"
            return bool(condition())

        await_until(holds, timeout_s, what)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the job, and not to its children."""
        self._note_children()
        self._process.send_signal(number)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Stop the job and all its processes by SIGSTOP while the block runs."""
        self._note_children()
        processes = [one for one in (self._handle, *self._seen.values()) if is_alive(one)]
        for one in processes:
            one.suspend()
        try:
            yield
        finally:
            for one in processes:
                one.resume()

    def exit_code(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the job's end and return its exit code, which is negative (-n) after a signal n."""
        await_until(lambda: not self.is_running, timeout_s, "the job ends")
        return self._process.wait()

    def clean_up(self) -> None:
        """Kill the job and all processes that it has started."""
        for one in (self._handle, *self._seen.values()):
            if is_alive(one):
                one.kill()
        self._process.wait()

    def _note_children(self) -> None:
        try:
            children = self._handle.children(recursive=True)
        except psutil.NoSuchProcess:
            return
        self._seen |= {child.pid: child for child in children if child.pid not in self._seen}


StartJob = Callable[..., Job]


class Feed:
    """Producer to raw topics that keeps the position and the expected outcome of each record.

    Attributes:
        expected: Code with which a record must be rejected, by source; None for a record that must be accepted.
    """

    def __init__(self, servers: str) -> None:
        self.expected: dict[Source, str | None] = {}
        self._servers = servers
        self._unplaced: dict[SourcePartition, list[tuple[bytes | None, str | None]]] = {}
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                # Uncompressed, a record may be larger than its topic's limit.
                "compression.type": "snappy",
                "message.max.bytes": 8 << 20,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,
            }
        )

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        code: str | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int = -1,
        timestamp: int = 0,
    ) -> None:
        """Send one record, by default to the partition of its key and with the present time."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            if message.offset() is None:
                self._unplaced.setdefault(partition_of(message), []).append((value, code))
            else:
                self.expected[source_of(message)] = code

        self._producer.produce(
            topic, value, key, partition, on_delivery=delivered, timestamp=timestamp, headers=list(headers)
        )

    def send_generated(
        self, country: str, records: int, *, seed: int = 0, fault_rate: float = 0.0, start: datetime | None = None
    ) -> None:
        """Send a country's generated CDRs."""
        for batch in generate_batches(all_profiles()[country], records, seed, fault_rate, start=start):
            rows = zip(batch.key, batch.value, batch.timestamp.to_physical(), batch.expected_code, strict=True)
            for key, value, timestamp, code in rows:
                self.send(raw_topic(country).name, key, value, code=code, timestamp=timestamp)
            self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the broker has acknowledged all records."""
        assert self._producer.flush(READ_TIMEOUT_S) == 0
        for part, records in self._unplaced.items():
            known = {source.offset for source in self.expected if source[:2] == part}
            found = dict(placed(self._servers, part, known, dict(records)))
            assert len(found) == len(records), f"{part}: {len(found)} of {len(records)} records are found"
            self.expected |= {Source(*part, offset): code for offset, code in found.items()}
        self._unplaced.clear()

    @contextmanager
    def flowing(self, country: str, records_per_second: int) -> Iterator[None]:
        """Send a country's CDRs, one in fifty faulty, at an even rate until the block ends."""
        stop = threading.Event()

        def flow() -> None:
            for seed in count(random.randrange(1 << 30)):
                self.send_generated(country, records_per_second // 10, seed=seed, fault_rate=0.02)
                if stop.wait(0.1):
                    return

        thread = threading.Thread(target=flow, name="feed")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.flush()


def scrape(url: str) -> list[Sample]:
    """Return the samples on a page of metrics."""
    with urllib.request.urlopen(url, timeout=600) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return [sample for family in families for sample in family.samples]


def source_of(message: Message) -> Source:
    """Return the position of a message."""
    offset = message.offset()
    assert offset is not None
    return Source(*partition_of(message), offset)


def partition_of(message: Message) -> SourcePartition:
    """Return the partition of a message."""
    topic, partition = message.topic(), message.partition()
    assert topic is not None
    assert partition is not None
    return SourcePartition(topic, partition)


def placed(
    servers: str, part: SourcePartition, known: Container[int], records: Mapping[bytes | None, T]
) -> Iterator[tuple[int, T]]:
    """Find records that a broker has acknowledged without an offset.

    A broker that gets a batch of an idempotent producer once more, and no longer knows where it is, does so.

    Args:
        servers: Brokers.
        part: Partition of the records.
        known: Offsets of the other records there.
        records: What belongs to a record, by its value.

    Yields:
        The offset of each record that is still there, and what belongs to it.
    """
    held = offset_ranges(servers, [part.topic], deadline_s=READ_TIMEOUT_S)[part]
    for offset in range(held.low, held.high):
        if offset not in known:
            for batch in read_ranges(servers, {part: OffsetRange(offset, offset + 1)}):
                (value,) = batch.column("raw_value").to_pylist()
                if value in records:
                    yield offset, records[value]


def _record_of(message: Message) -> Record:
    headers: Any = message.headers() or []
    return Record(source_of(message), message.key(), message.value(), headers, message.timestamp()[1])


def read_topic(servers: str, topic: str) -> list[Record]:
    """Return all records that a topic holds now; records of one partition are in order."""
    held_by = offset_ranges(servers, [topic], deadline_s=READ_TIMEOUT_S)
    ends = [part for part, held in held_by.items() if held.low < held.high]
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "test-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    records: list[Record] = []
    at_end: set[int] = set()
    try:
        consumer.assign([TopicPartition(part.topic, part.partition, OFFSET_BEGINNING) for part in ends])
        give_up = time.monotonic() + READ_TIMEOUT_S
        while len(at_end) < len(ends):
            assert time.monotonic() < give_up, f"{topic} cannot be read to its end"
            for message in consumer.consume(10_000, 0.2):
                error = message.error()
                if error is None:
                    records.append(_record_of(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    at_end.add(source_of(message).partition)
    finally:
        consumer.close()
    return records


def records_on(servers: str, *topics: str) -> int:
    """Return the number of records on topics."""
    return sum(held.offsets for held in offset_ranges(servers, topics, deadline_s=READ_TIMEOUT_S).values())


def limit_messages(servers: str, topic: str, max_bytes: int) -> None:
    """Make a topic refuse messages larger than `max_bytes`."""
    limit = ConfigEntry(
        "max.message.bytes",
        str(max_bytes),
        incremental_operation=AlterConfigOpType.SET,
    )
    admin = admin_client(servers)
    for done in admin.incremental_alter_configs(
        [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[limit])]
    ).values():
        done.result(timeout=READ_TIMEOUT_S)


def committed_offsets(servers: str, group: str, topic: str) -> dict[int, int]:
    """Return a group's committed offsets by partition, without the partitions that have none."""
    parts = [part for part in offset_ranges(servers, [topic], deadline_s=READ_TIMEOUT_S) if part.topic == topic]
    return {part.partition: offset for part, offset in group_offsets(servers, group, parts).items()}


def lease_holders(servers: str, group: str) -> list[Holder]:
    """Return the holders of a group's leases."""
    return Lease(servers, group).holders(READ_TIMEOUT_S)


def avro_reader(model: type[BaseModel], prefix_length: int = 10) -> Callable[[bytes], dict[str, Any]]:
    """Return a function that decodes a value of a model with fastavro, after a header of `prefix_length` bytes."""
    schema = fastavro.parse_schema(json.loads(avro_schema(model)))

    def read(value: bytes) -> dict[str, Any]:
        body = BytesIO(value[prefix_length:])
        record = fastavro.schemaless_reader(body, schema, None)
        assert body.read() == b"", "bytes are left behind the record"
        assert isinstance(record, dict)
        return record

    return read


def source_of_record(record: Mapping[str, Any]) -> Source:
    """Return the source, the position of the raw message, of a unified CDR."""
    return Source(record["source_topic"], record["source_partition"], record["source_offset"])


def source_of_letter(letter: Record) -> Source:
    """Return the source, the position of the raw message, of a dead letter."""
    topic, partition, offset = (letter.header(f"orion.source.{name}") for name in ("topic", "partition", "offset"))
    return Source(topic, int(partition), int(offset))


@contextmanager
def settings_of(servers: str, topic: str, settings: dict[str, str]) -> Iterator[None]:
    """Change a topic's settings while the block runs, and restore them afterwards."""

    def found() -> Mapping[str, str]:
        return describe_cluster(servers, [topic]).topics[topic].settings

    def keep(values: dict[str, str]) -> None:
        changes = [TopicChange(ChangeKind.CHANGE, topic, name, "", value) for name, value in values.items()]
        assert not apply_changes(servers, [], changes)
        await_until(lambda: values.items() <= found().items(), 600, "the broker has the settings")

    was = found()
    keep(settings)
    try:
        yield
    finally:
        keep({name: was[name] for name in settings})


def outcomes(servers: str, topic: str) -> Counter[Source]:
    """Count the outputs of each record of a raw topic, on cdr.final and cdr.dlq together."""
    read = avro_reader(UnifiedCdr)
    final = [source_of_record(read(message.payload)) for message in read_topic(servers, FINAL.name)]
    dead = [source_of_letter(message) for message in read_topic(servers, DEAD_LETTERS.name)]
    return Counter(source for source in (*final, *dead) if source.topic == topic)


def await_all_out(job: Job, servers: str, feed: Feed) -> None:
    """Wait until all records of a feed have come out, on cdr.final (in single-object encoding) or cdr.dlq."""
    topics = {source.topic for source in feed.expected}
    with Tally(servers) as tally:

        def all_out() -> bool:
            tally.poll(0.2)
            return sum(tally.account.accounted(topics).values()) >= len(feed.expected)

        job.await_until(all_out, START_TIMEOUT_S, "every record has come out")


@contextmanager
def jobs_in(directory: Path) -> Iterator[StartJob]:
    """Yield a function that starts jobs; afterwards kill those that still run, and print the ends of their logs."""
    with ExitStack() as started:

        def start(servers: str, *arguments: str, beam: Sequence[str] = (), workspace: Path | None = None) -> Job:
            directory.mkdir(exist_ok=True)
            log = directory / f"job-{len(list(directory.glob('job-*.log'))) + 1}.log"
            job = Job(log, servers, *arguments, beam=beam, workspace=workspace)
            started.callback(_show, job)
            started.callback(job.clean_up)
            return job

        yield start


@contextmanager
def kafka_in(directory: Path, **settings: str) -> Iterator[LocalKafka]:
    """Run a broker that has all topics.

    Args:
        directory: Directory for the broker's data.
        settings: Kafka settings of the broker; `_` in a name stands for a dot.
    """
    own = {name.replace("_", "."): value for name, value in settings.items()}
    with LocalKafka(directory, settings=own) as broker:
        create_topics(broker.bootstrap_servers, list(all_profiles()))
        yield broker


def _show(job: Job) -> None:
    tail = "\n".join(job.log.splitlines()[-_LOG_TAIL_LINES:])
    print(f"--- {job.log_file} ends:\n{tail}")
