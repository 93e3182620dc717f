"""The records of the comparison: a seeded pool of French CDRs, repeated until there are as many as wanted."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from benchmarks.peers.work import handler
from orion_beam.countries import default_profiles
from orion_beam.defaults import CELLS, SUBSCRIBERS
from orion_beam.kafka.clients import producer_config
from orion_beam.kafka.column_producer import ColumnProducer, DeliveryRefusal

TOPIC = "cdr.raw.FR"
POOL = 200_000
"""Distinct records. A batch on Kafka holds fewer, so that repeating them compresses nothing."""
FAULT_RATE = 0.02
SEED = 7
_CHUNK = 10_000
_TICK_S = 0.01
_FOREIGN = ("21401", "26202")
_UNKNOWN_CELLS = [f"FR-NEW-{each:03d}" for each in range(3)]
_START = datetime(2025, 1, 1, tzinfo=UTC)
_YEAR_S = 365 * 86_400


def write_reference(directory: Path) -> None:
    """Write the shipped reference data as the peers read them: `cells.csv` (cell, latitude, longitude) and
    `subscribers.csv` (IMSI, segment, plan), without headers."""
    _cells().select("cell_id", "lat", "lon").write_csv(directory / "cells.csv", include_header=False)
    _subscribers().select("imsi", "segment", "plan").write_csv(directory / "subscribers.csv", include_header=False)


class Pool:
    """The distinct records, with what must become of each.

    Attributes:
        keys: Kafka keys: the IMSIs as they are before a fault alters the record.
        values: Raw records.
        finals: Avro bytes that `work.handle` gives; null for a record that must be rejected.
    """

    def __init__(self, reference: Path) -> None:
        """Make the records and their outcomes, which takes some seconds."""
        pairs = list(_generated(random.Random(SEED), POOL))
        handle = handler(reference)
        self.keys = pa.array([key for key, _ in pairs], pa.binary())
        self.values = pa.array([value for _, value in pairs], pa.binary())
        self.finals = pa.array([_outcome(handle, value) for _, value in pairs], pa.binary())
        self._good = np.flatnonzero(self.finals.is_valid().to_numpy(zero_copy_only=False))

    def load(self, bootstrap_servers: str, count: int) -> npt.NDArray[np.int64]:
        """Put `count` records on the raw topic as fast as possible; return how often each record of the pool came."""
        producer = _producer(bootstrap_servers)
        times = np.zeros(POOL, np.int64)
        for first in range(0, count, _CHUNK):
            rows = np.arange(first, min(count, first + _CHUNK)) % POOL
            self._produce(producer, rows, times)
        _finish(producer)
        return times

    def feed(self, bootstrap_servers: str, rate: int, seconds: int) -> npt.NDArray[np.int64]:
        """Put good records on the raw topic at a steady rate; return how often each record of the pool came."""
        producer = _producer(bootstrap_servers)
        times = np.zeros(POOL, np.int64)
        start, sent = time.monotonic(), 0
        while sent < rate * seconds:
            due = min(rate * seconds, round((time.monotonic() - start) * rate))
            if due > sent:
                self._produce(producer, self._good[np.arange(sent, due) % len(self._good)], times)
                sent = due
            producer.poll(_TICK_S)
        _finish(producer)
        return times

    def _produce(self, producer: ColumnProducer, rows: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> None:
        producer.produce(TOPIC, self.keys.take(pa.array(rows)), self.values.take(pa.array(rows)))
        np.add.at(times, rows, 1)


def _outcome(handle: Callable[[bytes], bytes], value: bytes) -> bytes | None:
    try:
        return handle(value)
    except ValueError:
        return None


def _generated(random_: random.Random, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of records: known and unknown subscribers and cells, roamers, several forms of time, clock
    changes, empty IMEIs, and faults of 14 kinds."""
    choice, below = random_.choice, random_.randrange
    subscribers = _subscribers()["imsi"].to_list()
    # Cells of the subscriber's own operator: the peers do not know national roaming.
    cells = {
        plmn: [*_cells().filter(pl.col("plmn").cast(pl.String).is_in(operator.plmns))["cell_id"], *_UNKNOWN_CELLS]
        for operator in default_profiles()["FR"].operators
        for plmn in operator.plmns
    }
    for number in range(count):
        drawn = random_.random()
        imsi = choice(subscribers)
        if drawn > 0.8:
            imsi = ("20801" if drawn < 0.95 else choice(_FOREIGN)) + f"{below(10**10):010d}"
        fields = [
            imsi,
            choice(["+", ""]) + f"336{below(3)}{below(10**7):07d}",
            f"35{below(10**13):013d}" if random_.random() < 0.95 else "",
            choice(cells.get(imsi[:5], cells["20801"])),
            choice(["2G", "3G", "4G", "5G"]),
            str(below(10**6)),
            str(below(10**10)),
            _time(random_),
        ]
        value = ";".join(fields).encode()
        if random_.random() < FAULT_RATE:
            value = _with_fault(fields, number % 14)
        yield imsi.encode(), value


def _time(random_: random.Random) -> str:
    text = (_START + timedelta(seconds=random_.randrange(_YEAR_S))).strftime("%Y-%m-%dT%H:%M:%S")
    if random_.random() < 0.99:
        return text + "Z"
    other = random_.choice([".5Z", ".123456Z", "+02:00", "-0330", ".25-05:30", " "])
    return text.replace("T", " ") + "Z" if other == " " else text + other


def _with_fault(fields: list[str], kind: int) -> bytes:
    imsi = fields[0]
    changed = {
        0: (0, imsi[:10]),
        1: (0, "2080A" + imsi[5:]),
        2: (1, "+33"),
        3: (1, "++33612345678"),
        4: (2, "123"),
        5: (4, "6G"),
        6: (5, "-1"),
        7: (6, "1.5x"),
        8: (7, "2025-02-30T03:04:05Z"),
        9: (7, "2025-13-01T03:04:05Z"),
        10: (7, "yesterday"),
    }
    if kind in changed:
        place, text = changed[kind]
        fields[place] = text
        return ";".join(fields).encode()
    if kind == 11:
        return ";".join(fields[:7]).encode()
    if kind == 12:
        return ";".join([*fields, "extra"]).encode()
    return b"\xff\xfe;" + ";".join(fields).encode()


@cache
def _cells() -> pl.DataFrame:
    return pl.read_csv(CELLS).filter(pl.col("country") == "FR")


@cache
def _subscribers() -> pl.DataFrame:
    return pl.read_parquet(SUBSCRIBERS).filter(pl.col("imsi").str.starts_with("208"))


def _refused(refusal: DeliveryRefusal) -> None:
    raise RuntimeError(f"a record cannot be produced: {refusal.reason}")


def _producer(bootstrap_servers: str) -> ColumnProducer:
    return ColumnProducer(producer_config(bootstrap_servers, {}), _refused, logging.getLogger(__name__))


def _finish(producer: ColumnProducer) -> None:
    while producer.flush(10):
        pass
    producer.close()
