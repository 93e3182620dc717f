"""What follows from one look at Kafka after the other: rates, standstill, what retention has taken or soon will."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from orion_beam.kafka.offset_ranges import SourcePartition
from orion_beam.monitoring.reading import PartitionReading, Reading

RATE_WINDOW_S = 30.0
"""Rates are means over this time: a job commits every ten seconds, so over less they would jump."""


@dataclass
class _PartitionProgress:
    """One partition's last state, and since when it stands still."""

    last: PartitionReading
    moved_s: float
    lost_below: int = 0


@dataclass
class _CountryTotals:
    """Records of one country since this began."""

    arrived: int = 0
    processed: int = 0
    lost: int = 0
    committed_s: float | None = None
    past: deque[tuple[float, int, int]] = field(default_factory=deque)

    def rates(self, at_s: float) -> tuple[float, float]:
        """Note this moment; return records arrived and processed per second."""
        self.past.append((at_s, self.arrived, self.processed))
        while len(self.past) > 2 and self.past[1][0] <= at_s - RATE_WINDOW_S:
            self.past.popleft()
        since_s, arrived, processed = self.past[0]
        seconds = at_s - since_s
        return (
            ((self.arrived - arrived) / seconds, (self.processed - processed) / seconds) if seconds > 0 else (0.0, 0.0)
        )


@dataclass(frozen=True)
class CountryStatus:
    """How a country does.

    Attributes:
        ingestion_rate: records a second that arrive on its raw topic,
        processing_rate: and that its job has processed, by its commits.
        arrived, processed, lost: records since the monitor began; lost ones were deleted by retention unprocessed.
        lag: records that are not processed.
        lag_s: age of the oldest of these.
        standstill_s: how long a partition that has records to process has not come any further; of several the longest.
        commit_age_s: since the job committed, which it does when a checkpoint completes; None: not seen yet.
        data_loss_s: until retention may delete the first unprocessed record; None: it never does.
        unread_partitions: those that its job does not read, because they were added after it had started.
        jobs: how many jobs read its raw topic now; each beyond the first writes every record once more. None: unknown.
    """

    ingestion_rate: float
    processing_rate: float
    arrived: int
    processed: int
    lost: int
    lag: int
    lag_s: float
    standstill_s: float
    commit_age_s: float | None
    data_loss_s: float | None
    unread_partitions: int
    jobs: int | None


class Progress:
    """Folds readings into what is known of each country."""

    def __init__(self, countries: Mapping[str, str]) -> None:
        """Take the country of each raw topic."""
        self._countries = countries
        self._partitions: dict[SourcePartition, _PartitionProgress] = {}
        self._totals = {country: _CountryTotals() for country in countries.values()}

    def add(self, reading: Reading) -> dict[str, CountryStatus]:
        """Take the next reading; return the state of each country whose topic is there."""
        for source, part in reading.partitions.items():
            self._advance(source, part, reading.at_s)
        there = {source.topic for source in reading.partitions}
        return {
            country: self._status(topic, country, reading)
            for topic, country in self._countries.items()
            if topic in there
        }

    def _advance(self, source: SourcePartition, part: PartitionReading, at_s: float) -> None:
        totals = self._totals[self._countries[source.topic]]
        known = self._partitions.get(source)
        if known is None:
            known = self._partitions[source] = _PartitionProgress(part, at_s)
        before = known.last
        totals.arrived += max(0, part.held.high - before.held.high)
        # What retention has deleted was passed over, not processed.
        lost = 0
        if part.committed is not None and part.held.low > part.committed:
            lost = part.held.low - max(part.committed, known.lost_below)
            known.lost_below = max(part.held.low, known.lost_below)
        totals.lost += max(0, lost)
        moved = (part.committed or 0) - (before.committed or 0)
        if moved > 0:
            passed_over = max(0, min(known.lost_below, part.committed or 0) - (before.committed or 0))
            totals.processed += moved - passed_over
            totals.committed_s = at_s
        if moved or not part.lag or not before.lag:
            known.moved_s = at_s
        known.last = part

    def _status(self, topic: str, country: str, reading: Reading) -> CountryStatus:
        totals = self._totals[country]
        parts = {source: part for source, part in reading.partitions.items() if source.topic == topic}
        oldest_ms = [part.next_timestamp_ms for part in parts.values() if part.next_timestamp_ms is not None]
        lag_s = max(0.0, reading.at_s - min(oldest_ms) / 1000) if oldest_ms else 0.0
        retention_ms = reading.retention_ms.get(topic)
        ingestion_rate, processing_rate = totals.rates(reading.at_s)
        # A job commits all partitions that it reads at each checkpoint, empty ones too. One of which it knows nothing
        # does not stand still: it has an alert of its own.
        read = [source for source, part in parts.items() if part.committed is not None]
        return CountryStatus(
            ingestion_rate=ingestion_rate,
            processing_rate=processing_rate,
            arrived=totals.arrived,
            processed=totals.processed,
            lost=totals.lost,
            lag=sum(part.lag for part in parts.values()),
            lag_s=lag_s,
            standstill_s=max(reading.at_s - self._partitions[source].moved_s for source in read or parts),
            commit_age_s=None if totals.committed_s is None else reading.at_s - totals.committed_s,
            data_loss_s=None if retention_ms is None else retention_ms / 1000 - lag_s,
            unread_partitions=len(parts) - len(read) if read else 0,
            jobs=None if reading.jobs is None else reading.jobs.get(topic, 0),
        )
