"""A steady stream of seeded CDRs of four countries, with faults, that outlives every broker."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import count

from confluent_kafka import KafkaError, Message, Producer
from pyroaring import BitMap64

from orion_beam.countries import profiles_of
from orion_beam.generator import GeneratedBatch, generate_batches
from orion_beam.kafka.offset_ranges import SourcePartition
from tests.integration.harness import partition_of, placed
from tests.topics import raw_topic

FAULT_RATE = 0.02
COUNTRIES = ("FR", "MA", "SN", "TN")
_TICK_S = 0.5
_KEPT_TICKS = 4_000


class SteadyFeed:
    """Producer to the raw topics in a thread of its own. It knows the source of each record that brokers acknowledged.

    It waits for brokers for as long as it takes. Meanwhile it goes on making records, up to its queue's limit.

    Args:
        servers: Brokers.
        seed: The same seed gives the same records.
        rate: Records per second of each country.
    """

    def __init__(self, servers: str, seed: int, rate: int) -> None:
        """Connect; `start` starts sending."""
        self.rate = rate
        self._servers, self._seed = servers, seed
        self._sent: dict[SourcePartition, BitMap64] = {}
        self._rejects: dict[SourcePartition, BitMap64] = {}
        self._ends_at: deque[tuple[float, dict[SourcePartition, int]]] = deque(maxlen=_KEPT_TICKS)
        self._lock = threading.Lock()
        self._unplaced: dict[SourcePartition, list[tuple[bytes | None, bool]]] = {}
        self._ends = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                # Without a limit: nothing that was made is given up.
                "delivery.timeout.ms": 0,
                # New partitions get records soon.
                "topic.metadata.refresh.interval.ms": 5_000,
                "compression.type": "snappy",
                "message.max.bytes": 8 << 20,
                "queue.buffering.max.messages": 2_000_000,
                "log_level": 0,
                "error_cb": lambda _: None,
            }
        )

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Stop making records, and wait until brokers have acknowledged all.

        Raises:
            AssertionError: The thread has ended with an error.
        """
        self._ends.set()
        if self._thread.ident is not None:
            self._thread.join()
        while self._producer.flush(1.0):
            pass
        assert self._error is None, repr(self._error)
        for part, records in self._unplaced.items():
            self._place(part, records)

    def sent(self) -> dict[SourcePartition, BitMap64]:
        """Return the offsets of all records that were acknowledged, by source partition."""
        with self._lock:
            return {part: BitMap64(offsets) for part, offsets in self._sent.items()}

    def rejects(self) -> dict[SourcePartition, BitMap64]:
        """Return the offsets of those among them that must be rejected."""
        with self._lock:
            return {part: BitMap64(offsets) for part, offsets in self._rejects.items()}

    def age_s(self, part: SourcePartition, offset: int) -> float:
        """Return for how many seconds a record has been acknowledged, at least; 0 for half a second."""
        with self._lock:
            for moment, ends in self._ends_at:
                if ends.get(part, 0) > offset:
                    return time.monotonic() - moment
        return 0.0

    def backlog_s(self) -> float:
        """Return for how many seconds of the feed no broker has acknowledged the records.

        Raises:
            AssertionError: The thread has ended with an error.
        """
        assert self._error is None, repr(self._error)
        return len(self._producer) / (len(COUNTRIES) * self.rate)

    def hottest(self) -> SourcePartition:
        """Return the source partition with most records."""
        with self._lock:
            return max(self._sent, key=lambda part: len(self._sent[part]))

    def _run(self) -> None:
        try:
            began = time.monotonic()
            streams = {raw_topic(country).name: self._records_of(country) for country in COUNTRIES}
            for tick in count(1):
                for topic, stream in streams.items():
                    self._send(topic, next(stream))
                self._producer.poll(0)
                with self._lock:
                    self._ends_at.append((time.monotonic(), {part: len(kept) for part, kept in self._sent.items()}))
                while (left := began + tick * _TICK_S - time.monotonic()) > 0 and not self._ends.is_set():
                    self._producer.poll(min(left, 0.05))
                if self._ends.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  # whoever stops the feed raises it
            self._error = error

    def _records_of(self, country: str) -> Iterator[GeneratedBatch]:
        (profile,) = profiles_of([country]).values()
        rows = round(self.rate * _TICK_S)
        return generate_batches(profile, None, self._seed, FAULT_RATE, rows_per_second=self.rate, batch_rows=rows)

    def _send(self, topic: str, batch: GeneratedBatch) -> None:
        rows = zip(batch.key, batch.value, batch.timestamp.to_physical(), batch.expected_code, strict=True)
        for key, value, timestamp, code in rows:
            acknowledged = partial(self._acknowledged, is_reject=code is not None)
            self._producer.produce(topic, value, key, on_delivery=acknowledged, timestamp=timestamp)

    def _acknowledged(self, error: KafkaError | None, message: Message, *, is_reject: bool) -> None:
        assert error is None, error
        part, offset = partition_of(message), message.offset()
        with self._lock:
            if offset is None:
                self._unplaced.setdefault(part, []).append((message.value(), is_reject))
            else:
                self._note(part, offset, is_reject)

    def _note(self, part: SourcePartition, offset: int, is_reject: bool) -> None:
        for kept in (self._sent, self._rejects) if is_reject else (self._sent,):
            kept.setdefault(part, BitMap64()).add(offset)

    def _place(self, part: SourcePartition, records: list[tuple[bytes | None, bool]]) -> None:
        """Note records that were acknowledged without an offset, unless they have been deleted."""
        for offset, is_reject in list(placed(self._servers, part, self._sent.get(part, BitMap64()), dict(records))):
            self._note(part, offset, is_reject)
