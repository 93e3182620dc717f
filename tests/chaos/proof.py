"""What has come out, record by record: of which source, how often, and in which order for each key."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from pyroaring import BitMap64

from orion_beam.kafka.offset_ranges import SourcePartition, offset_ranges
from orion_beam.kafka.retry import is_retriable
from orion_beam.proof.cdr_reader import CdrReader
from orion_beam.proof.sources import Sources
from orion_beam.schemas.dead_letter import LETTER_HEADERS
from tests.topics import DEAD_LETTERS, FINAL

_SOURCE_HEADERS = [LETTER_HEADERS[f"source_{name}"] for name in ("topic", "partition", "offset")]


@dataclass
class Findings:
    """What has come out so far.

    Attributes:
        final: Source offsets on cdr.final, by source partition.
        dead_letters: Source offsets on cdr.dlq, by source partition.
        duplicates: Number of records that came out again.
        too_early: Number of duplicates below the floor: of records whose offsets had been committed before a harm.
        disorder: Number of records that came out behind a later one of the same key and source partition, for the
            first time. Dead letters are in order for each stage: those of a batch's first stage come out first.
        foreign: Number of records that could not be read.
    """

    final: dict[SourcePartition, BitMap64] = field(default_factory=dict)
    dead_letters: dict[SourcePartition, BitMap64] = field(default_factory=dict)
    duplicates: int = 0
    too_early: int = 0
    disorder: int = 0
    foreign: int = 0
    examples: list[str] = field(default_factory=list)
    _floor: Mapping[SourcePartition, int] = field(default_factory=dict)
    _latest: dict[tuple[str, str, bytes | None, SourcePartition], int] = field(default_factory=dict)

    def set_floor(self, committed: Mapping[SourcePartition, int]) -> None:
        """Take offsets that are committed now: no record below them may come out again."""
        self._floor = dict(committed)

    def note(self, topic: str, key: bytes | None, source: SourcePartition, offset: int, stage: str = "") -> None:
        """Enter a record of an output topic; those of one key, and of one stage for dead letters, are in order."""
        seen = (self.final if topic == FINAL.name else self.dead_letters).setdefault(source, BitMap64())
        if offset in seen:
            self.duplicates += 1
            if offset < self._floor.get(source, 0):
                self.too_early += 1
                self._tell(f"{source} offset {offset} came out again below the committed {self._floor[source]}")
            return
        seen.add(offset)
        latest = self._latest.get((topic, stage, key, source), -1)
        if offset < latest:
            self.disorder += 1
            self._tell(f"{source} offset {offset} came out on {topic} behind {latest} of its key")
        else:
            self._latest[topic, stage, key, source] = offset

    def came_out(self, source: SourcePartition) -> BitMap64:
        """Return the offsets of a source partition that have come out, on either topic."""
        return self.final.get(source, BitMap64()) | self.dead_letters.get(source, BitMap64())

    def counts(self) -> dict[str, int]:
        """Return the number of distinct sources that have come out, by raw topic."""
        counts: dict[str, int] = {}
        for source in self.final.keys() | self.dead_letters.keys():
            counts[source.topic] = counts.get(source.topic, 0) + len(self.came_out(source))
        return counts

    def _tell(self, example: str) -> None:
        if len(self.examples) < 20:
            self.examples.append(example)


class Proof:
    """Reader of cdr.final and cdr.dlq, in a thread of its own.

    Attributes:
        findings: What has been read; take `lock` for it.
    """

    def __init__(self, servers: str) -> None:
        """Start to read both topics from their beginnings."""
        self.findings = Findings()
        self.lock = threading.Lock()
        self._servers = servers
        self._reader = CdrReader()
        self._ends = threading.Event()
        self._error: BaseException | None = None
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "chaos-proof",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 100,
                "log_level": 0,
                "error_cb": lambda _: None,
            }
        )
        self._next = {part: held.low for part, held in offset_ranges(servers, [FINAL.name, DEAD_LETTERS.name]).items()}
        self._consumer.assign([TopicPartition(*part, offset) for part, offset in self._next.items()])
        self._thread = threading.Thread(target=self._run, name="proof", daemon=True)
        self._thread.start()

    def caught_up(self) -> bool:
        """Return whether all has been read that the topics hold now; ask the brokers."""
        ends = offset_ranges(self._servers, [FINAL.name, DEAD_LETTERS.name])
        self.check()
        with self.lock:
            return all(self._next[part] >= held.high for part, held in ends.items())

    def check(self) -> None:
        """Raise if the thread has ended with an error.

        Raises:
            AssertionError: It has.
        """
        assert self._error is None, self._error

    def counts(self) -> dict[str, int]:
        """Return the number of distinct sources that have come out, by raw topic."""
        self.check()
        with self.lock:
            return self.findings.counts()

    def close(self) -> None:
        """Stop reading."""
        self._ends.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        try:
            while not self._ends.is_set():
                messages = []
                for message in self._consumer.consume(2_000, 0.1):
                    error = message.error()
                    if error is None:
                        messages.append(message)
                    elif not is_retriable(error) and error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                if messages:
                    with self.lock:
                        self._note(messages)
        except BaseException as error:  # noqa: BLE001  # whoever asks next raises it
            self._error = error

    def _note(self, messages: list[Message]) -> None:
        cdrs = [message for message in messages if message.topic() == FINAL.name]
        sources = self._reader.read([cdr.value() or b"" for cdr in cdrs])
        for row, source, offset in in_order(sources):
            self.findings.note(FINAL.name, cdrs[row].key(), source, offset)
        self.findings.foreign += len(cdrs) - len(sources.rows)
        for message in messages:
            if message.topic() == DEAD_LETTERS.name:
                self._note_letter(message)
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None
            assert partition is not None
            assert offset is not None
            self._next[SourcePartition(topic, partition)] = offset + 1

    def _note_letter(self, message: Message) -> None:
        headers = dict(message.headers() or [])
        found = [headers.get(name) for name in (*_SOURCE_HEADERS, LETTER_HEADERS["stage"])]
        if any(value is None for value in found):
            self.findings.foreign += 1
            return
        topic, partition, offset, stage = (str(value, "utf-8") for value in found)  # type: ignore[arg-type]
        source = SourcePartition(topic, int(partition))
        self.findings.note(DEAD_LETTERS.name, message.key(), source, int(offset), stage)


def in_order(sources: Sources) -> Iterator[tuple[int, SourcePartition, int]]:
    """Yield row, source partition and offset of each record in the order of the rows, which a reader does not keep."""
    columns = (sources.rows, sources.topic, sources.partition, sources.offset)
    for row, topic, partition, offset in sorted(zip(*(column.tolist() for column in columns), strict=True)):
        yield row, SourcePartition(sources.topics[topic], partition), offset
