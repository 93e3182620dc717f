"""Metrics of a worker: what its stages and producers do, counted per batch, never per row.

With PROMETHEUS_MULTIPROC_DIR in the environment, prometheus-client keeps the metrics in files of that directory, where
the worker pool collects those of all its processes. Without it, `install` is not called and nothing is counted.
"""

import time
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client import CollectorRegistry, Counter, Histogram

from orion_beam.schemas.codes import Stage
from orion_beam.transforms.stage.batches import SplitBatch
from orion_beam.transforms.stage.join_countries import parts_of
from orion_beam.transforms.stage.observing import observe

_ROWS = (1, 10, 100, 1_000, 4_000, 16_000)
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_LATENCIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
_DELAYS = (1, 10, 60, 600, 3_600, 86_400, 604_800)


class WorkerMetrics:
    """The metrics of one process.

    The labels are stage, country, code, rule, topic, format, and names of members that look like usage
    (`decoders.unread_members`). No label is ever a value of a record.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Declare the metrics, by default in a registry of their own."""
        registry = registry or CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=registry)

        def histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, meaning, labels, registry=registry, buckets=buckets)

        self._read = counter("orion_records_in", "Records that a stage was given.", "stage", "country")
        self._accepted = counter("orion_records_accepted", "Records that a stage accepted.", "stage", "country")
        self._rejected = counter(
            "orion_records_rejected", "Records that a stage rejected, by first code.", "stage", "country", "code"
        )
        self._warned = counter("orion_warnings", "Accepted records that a rule warns of.", "country", "rule")
        self._unread = counter(
            "orion_unread_members", "Records with a member that looks like usage and is not read.", "country", "format",
            "member",
        )  # fmt: skip
        self._rows = histogram("orion_batch_rows", "Records of a batch, as it is decoded.", _ROWS, "country")
        self._seconds = histogram("orion_stage_seconds", "Time a stage takes for a batch.", _SECONDS, "stage")
        self._delay = histogram(
            "orion_event_delay_seconds", "Age of a batch's newest event as it is encoded.", _DELAYS, "country"
        )
        self._produced = counter("orion_produced_records", "Records given to the producer.", "topic")
        self._produce_errors = counter("orion_produce_errors", "Records that the broker refused for good.", "topic")
        self._waited = counter(
            "orion_produce_wait_seconds", "Time of waits until brokers take or acknowledge records.", "topic"
        )
        self._flush = histogram(
            "orion_produce_seconds",
            "Time that a bundle waits until brokers have taken and acknowledged it.",
            _LATENCIES,
            "topic",
        )

    def stage_done(self, step: str, batch: pa.RecordBatch, outcome: SplitBatch, seconds: float) -> None:
        """Count a batch that a stage, or a transform between stages, has split."""
        self._seconds.labels(step).observe(seconds)
        for country, rows in parts_of(batch):
            self._read.labels(step, country).inc(rows.num_rows)
            # Touch the counter, so that it exists with value 0 when nothing is accepted.
            self._accepted.labels(step, country)
            if step == Stage.DECODE:
                self._rows.labels(country).observe(rows.num_rows)
            elif step == Stage.ENCODE and (newest_ms := pc.max(rows.column("event_time")).value) is not None:
                self._delay.labels(country).observe(max(0.0, time.time() - newest_ms / 1000))
        for member in outcome.unread:
            self._unread.labels(member.country, member.raw_format, member.name).inc(member.records)
        for country, rows in parts_of(outcome.accepted):
            self._accepted.labels(step, country).inc(rows.num_rows)
            if step == Stage.VALIDATE:
                for rule, number in _counts(rows.column("warnings").flatten()):
                    self._warned.labels(country, rule).inc(number)
        for country, rows in parts_of(outcome.rejected):
            for code, number in _counts(rows.column("code")):
                self._rejected.labels(step, country, code).inc(number)

    def produced(self, topic: str, records: int) -> None:
        """Count records that were given to a producer."""
        self._produced.labels(topic).inc(records)

    def produce_failed(self, topic: str) -> None:
        """Count a record that the broker has refused for good."""
        self._produce_errors.labels(topic).inc()

    def waited(self, topic: str, seconds: float) -> None:
        """Count time that a writer has waited for brokers, also while the wait goes on."""
        self._waited.labels(topic).inc(seconds)

    def flushed(self, topic: str, seconds: float) -> None:
        """Record the time until the broker had acknowledged all records of a bundle."""
        self._flush.labels(topic).observe(seconds)


_metrics: WorkerMetrics | None = None


def install() -> None:
    """Make this process count. Call it once, when the process starts."""
    global _metrics
    _metrics = WorkerMetrics()
    observe(_metrics)


def worker_metrics() -> WorkerMetrics | None:
    """Return this process's metrics; None when it does not count."""
    return _metrics


def _counts(column: pa.Array) -> Iterator[tuple[str, int]]:
    counted = pc.value_counts(column)
    return zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
