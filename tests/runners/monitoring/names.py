"""The names of all metrics that we export, and those that expressions ask for."""

import re

from prometheus_client import CollectorRegistry

from orion_beam.monitoring.export import MonitorCollector
from orion_beam.runners.monitoring.alerts import ALERTS_DIRECTORY
from orion_beam.telemetry.worker_metrics import WorkerMetrics
from tests.orion_beam.monitoring.snapshots import monitor, snapshot

OF_PROMETHEUS = {"up"}
OF_THE_POOL = {
    "kafka_producer_record_error_rate",
    "orion_workers",
    "orion_worker_spares",
    "orion_worker_memory_bytes",
    "orion_workers_ended_total",
}


def exported() -> set[str]:
    """Return the names of monitor, workers, pool and brokers."""
    registry = CollectorRegistry()
    registry.register(MonitorCollector(monitor(snapshot())))
    WorkerMetrics(registry)
    suffixes = ("", "_total", "_bucket", "_sum", "_count")
    ours = {f"{metric.name}{suffix}" for metric in registry.collect() for suffix in suffixes}
    brokers = set(re.findall(r"^ +name: (\w+)$", (ALERTS_DIRECTORY / "jmx.yml").read_text(), re.MULTILINE))
    return ours | brokers | OF_THE_POOL | OF_PROMETHEUS


def asked_for(expressions: str) -> set[str]:
    """Return the metrics that PromQL names."""
    without_strings = re.sub(r'"[^"]*"', "", expressions)
    return set(re.findall(r"\b(?:orion|kafka)_[a-z_0-9]+\b|\bup\b(?=\{)", without_strings))
