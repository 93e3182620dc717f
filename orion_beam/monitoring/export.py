"""The monitor's last look as Prometheus metrics."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orion_beam.monitoring.flink import JobStatus
from orion_beam.monitoring.letters import FOREIGN, LetterKind, known_kinds
from orion_beam.monitoring.monitor import PLACES, Monitor, Snapshot
from orion_beam.monitoring.progress import CountryStatus

MetricSample = tuple[Iterable[str], float | None]
"""Values of the labels, and the number; a sample with None is left out."""

_COUNTRY_GAUGES: dict[str, tuple[str, Callable[[CountryStatus], float | None]]] = {
    "orion_kafka_lag_seconds": ("Age of the oldest record that the group has not processed.", lambda at: at.lag_s),
    "orion_kafka_ingestion_rate": ("Records a second that arrive.", lambda at: at.ingestion_rate),
    "orion_kafka_processing_rate": ("Records a second that the group's commits pass.", lambda at: at.processing_rate),
    "orion_kafka_standstill_seconds": ("How long a partition with lag has not moved.", lambda at: at.standstill_s),
    "orion_kafka_commit_age_seconds": ("Time since the group last committed offsets.", lambda at: at.commit_age_s),
    "orion_kafka_data_loss_seconds": (
        "Time until retention may delete a record that is not processed.",
        lambda at: at.data_loss_s,
    ),
    "orion_kafka_unread_partitions": (
        "Partitions without a commit while others of the topic have one.",
        lambda at: at.unread_partitions,
    ),
    "orion_kafka_jobs": ("Jobs of the group that read the raw topic.", lambda at: at.jobs),
}
_COUNTRY_COUNTERS: dict[str, tuple[str, Callable[[CountryStatus], float]]] = {
    "orion_kafka_arrived_records": ("Records that have arrived since the monitor began.", lambda at: at.arrived),
    "orion_kafka_processed_records": (
        "Records that the group's commits have passed since the monitor began.",
        lambda at: at.processed,
    ),
    "orion_kafka_lost_records": ("Records that retention has deleted unprocessed.", lambda at: at.lost),
}
_JOB_GAUGES: dict[str, tuple[str, Callable[[JobStatus], float | None]]] = {
    "orion_flink_job_running": ("Whether all tasks of the job run.", lambda job: job.runs),
    "orion_flink_tasks_waiting": (
        "Tasks that do not run: they restart, or wait for a TaskManager.",
        lambda job: job.tasks_waiting,
    ),
    "orion_flink_busy_ratio": (
        "Part of the time for which the busiest task with stages works or waits for its workers, 0 to 1.",
        lambda job: job.busy,
    ),
    "orion_flink_checkpoint_duration_seconds": ("Duration of the last checkpoint.", lambda job: job.checkpoint_s),
    "orion_flink_checkpoint_timestamp_seconds": (
        "Unix time at which the last completed checkpoint was triggered.",
        lambda job: job.checkpoint_at_s,
    ),
}
_JOB_COUNTERS: dict[str, tuple[str, Callable[[JobStatus], float]]] = {
    "orion_flink_checkpoints_completed": ("Checkpoints that have completed.", lambda job: job.completed),
    "orion_flink_checkpoints_failed": ("Checkpoints that have failed.", lambda job: job.failed),
    "orion_flink_restarts": ("Restarts of the job.", lambda job: job.restarts),
}


class MonitorCollector(Collector):
    """Makes metrics of the monitor's last look.

    While Kafka does not answer, metrics from Kafka are left out instead of repeating old values.
    """

    def __init__(self, monitor: Monitor) -> None:
        """Keep the monitor, which need not have looked yet."""
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """Yield each metric."""
        snapshot = self._monitor.latest
        if snapshot is not None:
            config = self._monitor.config
            topics = {profile.topic: code for code, profile in config.profiles.items()}
            yield from _of_kafka(snapshot, config.group_id, topics)
            yield from _of_countries(snapshot)
            yield from _of_letters(snapshot, list(config.profiles))
            yield from _of_flink(snapshot)
            yield from _of_pressure(snapshot)
            yield from _of_disks(snapshot)


def _of_kafka(snapshot: Snapshot, group: str, countries: dict[str, str]) -> Iterator[Metric]:
    yield _gauge("orion_kafka_up", "Whether Kafka answers.", (), [((), snapshot.is_up)])
    reading = snapshot.reading
    if reading is None:
        return
    cluster = {
        "orion_kafka_brokers": ("Brokers that the cluster has.", reading.brokers),
        "orion_kafka_under_replicated_partitions": (
            "Partitions that lack a replica.",
            reading.under_replicated,
        ),
        "orion_kafka_leaderless_partitions": ("Partitions without a leader.", reading.leaderless),
    }
    for name, (meaning, number) in cluster.items():
        yield _gauge(name, meaning, (), [((), number)])
    yield _gauge(
        "kafka_consumer_lag",
        "Records that the group has not processed.",
        ("group", "topic", "partition", "country"),
        (
            ((group, source.topic, str(source.partition), countries[source.topic]), part.lag)
            for source, part in reading.partitions.items()
        ),
    )
    yield _counter(
        "orion_kafka_written_records",
        "Records written to the topic since the monitor began, whoever wrote them.",
        ("topic",),
        (((topic,), count) for topic, count in snapshot.written.items()),
    )


def _of_countries(snapshot: Snapshot) -> Iterator[Metric]:
    countries = snapshot.countries.items()
    for name, (meaning, number) in _COUNTRY_GAUGES.items():
        yield _gauge(name, meaning, ("country",), (((code,), number(at)) for code, at in countries))
    for name, (meaning, count) in _COUNTRY_COUNTERS.items():
        yield _counter(name, meaning, ("country",), (((code,), count(at)) for code, at in countries))


def _of_letters(snapshot: Snapshot, countries: list[str]) -> Iterator[Metric]:
    # Known kinds start at 0: rate() and increase() do not see the first dead letter of a series that starts with it.
    kinds = dict.fromkeys(known_kinds(countries), 0) | {
        kind: count for kind, count in snapshot.letters.items() if kind != FOREIGN
    }
    yield _counter(
        "orion_kafka_errors",
        "Dead letters on cdr.dlq, by country, stage and first code.",
        LetterKind._fields,
        kinds.items(),
    )
    foreign = snapshot.letters.get(FOREIGN, 0)
    yield _counter(
        "orion_kafka_foreign_letters", "Messages on cdr.dlq that ORION Beam did not write.", (), [((), foreign)]
    )


def _of_flink(snapshot: Snapshot) -> Iterator[Metric]:
    managers = snapshot.jobs.items()
    up = (((manager,), jobs is not None) for manager, jobs in managers)
    yield _gauge("orion_flink_up", "Whether the JobManager answers.", ("jobmanager",), up)
    labels = ("jobmanager", "flink_job", "flink_job_id")
    jobs = [((manager, job.name, job.id), job) for manager, jobs in managers for job in jobs or ()]
    for name, (meaning, number) in _JOB_GAUGES.items():
        yield _gauge(name, meaning, labels, ((values, number(job)) for values, job in jobs))
    for name, (meaning, count) in _JOB_COUNTERS.items():
        yield _counter(name, meaning, labels, ((values, count(job)) for values, job in jobs))


def _of_pressure(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("jobmanager", "flink_job", "flink_job_id", "topic")
    yield _gauge(
        "orion_flink_read_held_ratio",
        "Part of the time for which the read of the topic is held back by what follows, 0 to 1.",
        labels,
        (
            ((manager, job.name, job.id, topic), ratio)
            for manager, jobs in snapshot.jobs.items()
            for job in jobs or ()
            for topic, ratio in job.held.items()
        ),
    )
    yield _gauge(
        "orion_worker_sink_ratio",
        "Part of the workers' time that they wait for brokers and do not work in stages, 0 to 1.",
        (),
        [((), snapshot.sink_ratio)],
    )
    yield _gauge(
        "orion_pressed",
        "Whether the country's records are held up at the place.",
        ("country", "place"),
        (
            ((code, place), snapshot.pressed.get(code) == place)
            for code in (snapshot.countries if any(snapshot.jobs.values()) else ())
            for place in PLACES
        ),
    )


def _of_disks(snapshot: Snapshot) -> Iterator[Metric]:
    disks = snapshot.disks.items()
    used = (((path,), use.used_ratio) for path, use in disks)
    yield _gauge("orion_disk_used_ratio", "Used part of the file system, 0 to 1.", ("path",), used)
    free = (((path,), use.free) for path, use in disks)
    yield _gauge("orion_disk_free_bytes", "Free bytes of the file system.", ("path",), free)


def _gauge(name: str, meaning: str, labels: Iterable[str], samples: Iterable[MetricSample]) -> Metric:
    return _with_samples(GaugeMetricFamily(name, meaning, labels=tuple(labels)), samples)


def _counter(name: str, meaning: str, labels: Iterable[str], samples: Iterable[MetricSample]) -> Metric:
    return _with_samples(CounterMetricFamily(name, meaning, labels=tuple(labels)), samples)


def _with_samples(family: GaugeMetricFamily | CounterMetricFamily, samples: Iterable[MetricSample]) -> Metric:
    for values, number in samples:
        if number is not None:
            family.add_metric(tuple(values), float(number))
    return family
