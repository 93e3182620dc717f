"""Monitor: reads Kafka and Flink every few seconds, for the exporter, the status page and `orion-beam top`."""

import logging
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import KafkaException

from orion_beam.countries import all_profiles
from orion_beam.errors import UserError
from orion_beam.monitoring.flink import HELD_RATIO, JobStatus, jobs_of
from orion_beam.monitoring.letters import LetterCounter, LetterKind
from orion_beam.monitoring.progress import RATE_WINDOW_S, CountryStatus, Progress
from orion_beam.monitoring.reading import KafkaReader, Reading
from orion_beam.schemas.country import CountryProfile
from orion_beam.telemetry.worker_time import PoolTimes, WatchedPools
from orion_beam.topics.names import own_topics
from orion_beam.transforms.stage.exceptions import name_of

HISTORY_S = 3600.0
LATE_S = 60.0
"""Age of the oldest unprocessed record from which a country lags, as the alert has it."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MonitorConfig:
    """What the monitor looks at.

    Attributes:
        bootstrap_servers: The brokers.
        group_id: Consumer group whose commits show the jobs' progress.
        profiles: The countries, by code.
        final_topic: Topic of final CDRs.
        dead_letter_topic: Topic of dead letters.
        flink_urls: REST addresses of JobManagers.
        workers: Addresses at which worker pools serve their metrics.
        metrics_token: File with the token that these ask for; None for no token.
        disks: Directories whose file systems must not fill up.
        interval_s: Seconds between two looks.
    """

    bootstrap_servers: str
    group_id: str
    profiles: Mapping[str, CountryProfile]
    final_topic: str = field(default_factory=lambda: own_topics().final.name)
    dead_letter_topic: str = field(default_factory=lambda: own_topics().dead_letters.name)
    flink_urls: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    metrics_token: Path | None = None
    disks: tuple[Path, ...] = ()
    interval_s: float = 5.0


class DiskUse(NamedTuple):
    """Use of a file system in bytes, as `df` shows it: without the space reserved for root."""

    size: int
    free: int

    @property
    def used_ratio(self) -> float:
        """The used part of the file system, 0 to 1."""
        return 1 - self.free / self.size


@dataclass(frozen=True)
class Snapshot:
    """Result of one look.

    Attributes:
        at_s: Time of the look, in seconds since the epoch.
        is_up: Whether Kafka answered.
        problem: Why it could not be read; empty if it was.
        reading: Kafka's state. None: Kafka did not answer.
        countries: State of each country whose topic exists; empty while Kafka does not answer.
        letters: Dead letters since the monitor started, by kind.
        reject_rates: Dead letters per second, by country and code.
        written: Records written to each output topic since the monitor started.
        jobs: Flink's jobs, by JobManager. None: the JobManager does not answer.
        sink_ratio: Part of the workers' time, over half a minute, that they waited for brokers, not worked in stages.
            None: no pool is watched, one does not answer, or they did neither.
        pressed: Where a country's records are held up, by country: see `pressed_at`.
        disks: Use of the existing file systems, by path.
    """

    at_s: float
    is_up: bool = False
    problem: str = ""
    reading: Reading | None = None
    countries: Mapping[str, CountryStatus] = field(default_factory=dict)
    letters: Mapping[LetterKind, int] = field(default_factory=dict)
    reject_rates: Mapping[tuple[str, str], float] = field(default_factory=dict)
    written: Mapping[str, int] = field(default_factory=dict)
    jobs: Mapping[str, tuple[JobStatus, ...] | None] = field(default_factory=dict)
    sink_ratio: float | None = None
    pressed: Mapping[str, str] = field(default_factory=dict)
    disks: Mapping[str, DiskUse] = field(default_factory=dict)


PLACES = ("source", "python", "sink", "workers")
"""Where records may be held up. `workers` is Python or the sink, where no metrics of a worker pool tell which."""


def pressed_at(held_ratio: float | None, lag_s: float, sink_ratio: float | None) -> str | None:
    """Return which of PLACES holds up a country's records; None if none does, or nobody can tell.

    Args:
        held_ratio: Part of the time for which the read is held back by what follows. None: Flink does not say.
        lag_s: Age of the oldest unprocessed record.
        sink_ratio: Part of the workers' time that they wait for brokers. None: unknown.
    """
    if held_ratio is None:
        return None
    if held_ratio < HELD_RATIO:
        # What follows takes all that the read gives, and yet records wait.
        return "source" if lag_s > LATE_S else None
    if sink_ratio is None:
        return "workers"
    return "sink" if sink_ratio >= HELD_RATIO else "python"


class FusedRead(NamedTuple):
    """What the workers say of a read that is one task with its stages, of which Flink measures nothing.

    Attributes:
        busy: Part of the time for which each subtask waits for its worker, which is in a stage or waits for brokers.
        sink_ratio: Part of the workers' time that they wait for brokers.
    """

    busy: float
    sink_ratio: float


def fused_reads(
    jobs: Iterable[JobStatus], pools: PoolTimes, countries: Mapping[str, str], partitions: Mapping[str, int]
) -> dict[str, FusedRead]:
    """Return what is known of each read that is one task with its stages, by topic.

    Args:
        jobs: The jobs whose tasks run.
        pools: What the pools did of late.
        countries: Country of each topic that is watched.
        partitions: Number of partitions of each. A subtask without one reads nothing.
    """
    found = {}
    for topic, subtasks in ((topic, number) for job in jobs for topic, number in job.fused.items()):
        workers = pools.of_country(countries[topic]) if partitions.get(topic) else None
        # A subtask has one bundle at a time, and so one thread of a worker.
        busy = workers and workers.busy_ratio(min(subtasks, partitions[topic]))
        if workers and busy is not None and workers.sink_ratio is not None:
            found[topic] = FusedRead(busy, workers.sink_ratio)
    return found


def with_busy(job: JobStatus, fused: Mapping[str, FusedRead]) -> JobStatus:
    """Return a job with how busy its workers are by their own account, where that is more than Flink says."""
    known = [job.busy, *(fused[topic].busy for topic in job.fused if topic in fused)]
    return replace(job, busy=max((ratio for ratio in known if ratio is not None), default=None))


def places(
    lags_s: Mapping[str, float], jobs: Iterable[JobStatus], sink_ratio: float | None, fused: Mapping[str, FusedRead]
) -> dict[str, str]:
    """Return which of PLACES holds up the records of each topic that is held up; see `pressed_at`.

    Args:
        lags_s: Age of each topic's oldest unprocessed record.
        jobs: The jobs whose tasks run.
        sink_ratio: Part of the time of all workers that they wait for brokers. None: unknown.
        fused: What the workers say of reads of which Flink says nothing. Workers are also busy when each of a few
            records waits for its acknowledgement, so a place is named only where records lag.
    """
    held: dict[str, float] = {}
    for job in jobs:
        held |= {topic: max(ratio, held.get(topic, 0.0)) for topic, ratio in job.held.items()}
    found = {}
    for topic, lag_s in lags_s.items():
        if topic in held:
            found[topic] = pressed_at(held[topic], lag_s, sink_ratio)
        elif topic in fused and lag_s > LATE_S:
            found[topic] = pressed_at(fused[topic].busy, lag_s, fused[topic].sink_ratio)
    return {topic: place for topic, place in found.items() if place is not None}


class Monitor:
    """Looks at Kafka and Flink again and again, in its own thread while the block runs; results are always available.

    It keeps running when Kafka or Flink is down, and reports that.
    """

    def __init__(self, config: MonitorConfig, history: Iterable[Snapshot] = ()) -> None:
        """Keep the configuration and earlier looks; nothing is asked yet."""
        self.config = config
        topics = {profile.topic: code for code, profile in config.profiles.items()}
        sinks = (config.final_topic, config.dead_letter_topic)
        self._reader = KafkaReader(config.bootstrap_servers, config.group_id, topics, sinks)
        countries = frozenset(all_profiles()) | config.profiles.keys()
        self._letters = LetterCounter(config.bootstrap_servers, config.dead_letter_topic, countries, config.group_id)
        self._progress = Progress(topics)
        self._codes = topics
        self._pools = WatchedPools(config.workers, RATE_WINDOW_S, config.metrics_token)
        self._written_before: Mapping[str, int] = {}
        self._written: Counter[str] = Counter()
        self._past_letters: deque[tuple[float, Counter[LetterKind]]] = deque()
        self._history = deque(history, maxlen=max(2, round(HISTORY_S / config.interval_s)))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="orion-monitor", daemon=True)

    @property
    def latest(self) -> Snapshot | None:
        """The last look. None: there was none yet."""
        history = self.history
        return history[-1] if history else None

    @property
    def history(self) -> tuple[Snapshot, ...]:
        """The looks of the last hour, oldest first."""
        return tuple(self._history.copy())

    def look(self) -> Snapshot:
        """Look once and remember the result."""
        at_s, problem = time.time(), ""
        try:
            reading = self._reader.read()
            self._letters.poll()
        except (KafkaException, UserError) as error:
            reading, problem = None, str(error)
            if self.latest is None or self.latest.problem != problem:
                _logger.warning("Kafka cannot be read: %s", problem, extra={"event": "kafka_unread"})
        letters = self._letters.counts.copy()
        if reading is not None:
            for topic, end in reading.written.items():
                self._written[topic] += max(0, end - self._written_before.get(topic, end))
            self._written_before = reading.written
        countries = {} if reading is None else self._progress.add(reading)
        jobs = {url: jobs_of(url) for url in self.config.flink_urls}
        running = [job for known in jobs.values() for job in known or () if job.runs]
        pools = self._pools.look()
        sink_ratio = None if pools is None else pools.of_all().sink_ratio
        partitions = Counter(source.topic for source in reading.partitions) if reading else {}
        fused = {} if pools is None else fused_reads(running, pools, self._codes, partitions)
        lags_s = {topic: countries[code].lag_s for topic, code in self._codes.items() if code in countries}
        held_up = places(lags_s, running, sink_ratio, fused)
        snapshot = Snapshot(
            at_s=at_s if reading is None else reading.at_s,
            is_up=reading is not None,
            problem=problem,
            reading=reading,
            countries=countries,
            letters=letters,
            reject_rates=self._reject_rates(at_s, letters),
            written=self._written.copy(),
            jobs={url: known and tuple(with_busy(job, fused) for job in known) for url, known in jobs.items()},
            sink_ratio=sink_ratio,
            pressed={self._codes[topic]: place for topic, place in held_up.items()},
            disks={str(path): use for path in self.config.disks if (use := _disk_use(path)) is not None},
        )
        self._history.append(snapshot)
        return snapshot

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the thread and close the connections."""
        self._stop.set()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Close the connections; leaving the block does so, too."""
        self._reader.close()
        self._letters.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self.look()
            except Exception as error:
                # Nobody would notice if the thread ended, and the page would go on showing old numbers.
                _logger.error("reading Kafka and Flink failed with %s", name_of(error), extra={"event": "look_failed"})
            self._stop.wait(max(0.0, began + self.config.interval_s - time.monotonic()))

    def _reject_rates(self, at_s: float, letters: Counter[LetterKind]) -> dict[tuple[str, str], float]:
        self._past_letters.append((at_s, letters))
        while len(self._past_letters) > 2 and self._past_letters[1][0] <= at_s - RATE_WINDOW_S:
            self._past_letters.popleft()
        since_s, before = self._past_letters[0]
        rates: Counter[tuple[str, str]] = Counter()
        for kind, count in letters.items():
            rates[kind.country, kind.code] += count - before[kind]
        return {key: count / (at_s - since_s) for key, count in rates.items() if at_s > since_s}


def _disk_use(path: Path) -> DiskUse | None:
    try:
        use = shutil.disk_usage(path)
    except OSError:
        return None
    return DiskUse(use.used + use.free, use.free)
