"""Progress of a country, derived from successive readings of Kafka.

That is the lag in seconds, rates, standstill, and records that retention took or will take. The lag of a partition in
records is in `reading`, which needs one reading only.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from orion_beam.kafka.offset_ranges import SourcePartition
from orion_beam.monitoring.reading import PartitionReading, Reading

RATE_WINDOW_S = 30.0
"""Time over which rates are averaged; a job commits every ten seconds, so over a shorter time they would jump."""


@dataclass
class _PartitionProgress:
    """One partition's last reading, the time when it last moved, and the offset below which records were lost."""

    last: PartitionReading
    moved_s: float
    lost_below: int = 0


@dataclass
class _CountryTotals:
    """Numbers of records of one country since the monitor started."""

    arrived: int = 0
    processed: int = 0
    lost: int = 0
    committed_s: float | None = None
    past: deque[tuple[float, int, int]] = field(default_factory=deque)

    def rates(self, at_s: float) -> tuple[float, float]:
        """Remember the totals at this moment; return records arrived and processed per second."""
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
    """State of a country.

    Attributes:
        ingestion_rate: Records per second that arrive on the raw topic.
        processing_rate: Records per second that the job processes, by its commits.
        arrived: Records that have arrived since the monitor started.
        processed: Records that were processed since the monitor started.
        lost: Records that retention has deleted unprocessed since the monitor started.
        lag: Number of unprocessed records.
        lag_s: Age of the oldest unprocessed record, in seconds.
        standstill_s: Seconds since a partition with unprocessed records last moved; the longest over all partitions.
        commit_age_s: Seconds since the job last committed, which it does at each completed checkpoint. None: no commit
            was seen yet.
        data_loss_s: Seconds until retention may delete the oldest unprocessed record. None: it never does.
        unread_partitions: Partitions without a commit, of a topic of which others have one. A job reads a partition
            that is added within a minute.
        jobs: Number of jobs that read the raw topic; each beyond the first writes every record once more. None: the
            number is not known.
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
    """Derives the state of each country from successive readings."""

    def __init__(self, countries: Mapping[str, str]) -> None:
        """Keep the country of each raw topic."""
        self._countries = countries
        self._partitions: dict[SourcePartition, _PartitionProgress] = {}
        self._totals = {country: _CountryTotals() for country in countries.values()}

    def add(self, reading: Reading) -> dict[str, CountryStatus]:
        """Add the next reading; return the state of each country whose topic exists."""
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
        # Records that retention has deleted were skipped, not processed.
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
        # At each checkpoint a job commits all partitions that it reads, even empty ones. A partition without a commit
        # is unread rather than at a standstill; it has its own alert.
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
