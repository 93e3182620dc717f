"""The metrics of all worker processes of a pool, behind one port."""

import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from orion_beam.monitoring.server import metrics_page, serving

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Tells prometheus-client, when it is imported, to keep metrics in files of this directory."""

_ERRORS, _ERROR_RATE = "orion_produce_errors", "kafka_producer_record_error_rate"
_RATE_WINDOW_S = 60.0


class _ProducerErrorRate(Collector):
    """Records a second that brokers refused for good, over the last minute: what Java's producers call by this name."""

    def __init__(self, workers: MultiProcessCollector) -> None:
        self._workers = workers
        self._past: deque[tuple[float, float]] = deque()

    def collect(self) -> Iterator[Metric]:
        now = time.monotonic()
        errors = sum(
            sample.value
            for metric in self._workers.collect()  # type: ignore[no-untyped-call]
            if metric.name == _ERRORS
            for sample in metric.samples
            if sample.name == f"{_ERRORS}_total"
        )
        self._past.append((now, errors))
        while len(self._past) > 2 and self._past[1][0] <= now - _RATE_WINDOW_S:
            self._past.popleft()
        since, before = self._past[0]
        rate = (errors - before) / (now - since) if now > since else 0.0
        yield GaugeMetricFamily(_ERROR_RATE, "Records a second that brokers refuse for good.", value=rate)


@contextmanager
def worker_exposition(listen: str | None) -> Iterator[dict[str, str]]:
    """Serve the metrics of worker processes while the block runs.

    Processes that have ended are still counted, so that counters never go back while the pool lives.

    Args:
        listen: `host:port`; None serves nothing, and workers then count nothing.

    Yields:
        What the workers must have in their environment.

    Raises:
        UserError: the address is none, or cannot be listened on.
    """
    if listen is None:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="orion-beam-metrics-") as directory:
        registry = CollectorRegistry()
        workers = MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]
        registry.register(_ProducerErrorRate(workers))
        with serving(listen, {"/metrics": metrics_page(registry)}):
            yield {DIRECTORY_VARIABLE: directory}


def is_wanted() -> bool:
    """Return whether this process is a worker whose metrics are served."""
    return DIRECTORY_VARIABLE in os.environ
