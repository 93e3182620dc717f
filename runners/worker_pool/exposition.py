"""Exposition of the metrics of all worker processes of a pool at one port."""

import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from orion_beam.monitoring.server import Page, metrics_page, serving
from orion_beam.runners.local.processes import is_alive

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable that names the directory in which prometheus-client, when imported, keeps metrics in files."""

_ERRORS, _ERROR_RATE = "orion_produce_errors", "kafka_producer_record_error_rate"
_RATE_WINDOW_S = 60.0
_KINDS = ("counter", "histogram")
"""Kinds of metrics that workers keep. Each process has one file of each kind, such as `counter_4711.db`."""
_one_at_a_time = threading.Lock()
_PREFIX = "orion-beam-metrics-"
_YOUNG_S = 60.0
_ENDED = "ended"
"""Stands in the place of the process id in the name of the file with the sums of processes that have ended."""


class _Workers(MultiProcessCollector):
    """Sums of the metrics over all processes.

    A pool lives for months and restarts workers, so the files of all ended processes are merged into one.
    """

    def __init__(self, registry: CollectorRegistry, directory: str) -> None:
        super().__init__(registry, path=directory)  # type: ignore[no-untyped-call]

    def collect(self) -> list[Metric]:
        add_up_ended(self._path)
        with _one_at_a_time:
            return list(super().collect())  # type: ignore[no-untyped-call]


def add_up_ended(directory: str) -> None:
    """Add up the metric files of processes that have ended in one file of each kind, and remove them."""
    with _one_at_a_time:
        for kind in _KINDS:
            _add_up_ended(Path(directory), kind)


def _add_up_ended(directory: Path, kind: str) -> None:
    files = {path: path.stem.rpartition("_")[2] for path in directory.glob(f"{kind}_*.db")}
    ended = [path for path, pid in files.items() if pid.isdigit() and not is_alive(int(pid))]
    if not ended:
        return
    total = directory / f"{kind}_{_ENDED}.db"
    sums: Counter[str] = Counter()
    for path in ended if total not in files else [total, *ended]:
        # A process that is killed at its start leaves an empty file.
        if path.stat().st_size:
            for key, value, *_ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
                sums[key] += value
    draft = directory / f"{kind}.draft"
    written = MmapedDict(str(draft))  # type: ignore[no-untyped-call]
    for key, value in sums.items():
        written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    written.close()  # type: ignore[no-untyped-call]
    draft.replace(total)
    for path in ended:
        path.unlink()


class _ProducerErrorRate(Collector):
    """Rate of records that brokers refused for good, per second over the last minute; named as in Java's producers."""

    def __init__(self, workers: _Workers) -> None:
        self._workers = workers
        self._past: deque[tuple[float, float]] = deque()

    def collect(self) -> Iterator[Metric]:
        now = time.monotonic()
        errors = sum(
            sample.value
            for metric in self._workers.collect()
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
def worker_exposition(
    listen: str | None,
    others: Collector | None = None,
    pages: Mapping[str, Page] | None = None,
    token_file: Path | None = None,
) -> Iterator[dict[str, str]]:
    """Serve the metrics of worker processes while the block runs.

    Processes that have ended stay in the sums, so that counters never decrease while the pool lives.

    Args:
        listen: Address as `host:port`; with None, nothing is served and workers count nothing.
        others: Metrics to serve beside those of the workers.
        pages: Pages to serve beside `/metrics`, by their paths.
        token_file: File with the token that requests must bear; None for no token.

    Yields:
        The variables that the workers must have in their environment.

    Raises:
        UserError: The address is not of this form, cannot be listened on, or needs a token.
    """
    if listen is None:
        yield {}
        return
    with _metric_files() as directory:
        registry = CollectorRegistry()
        workers = _Workers(registry, directory)
        registry.register(_ProducerErrorRate(workers))
        if others is not None:
            registry.register(others)
        served = {**(pages or {}), "/metrics": metrics_page(registry)}
        with serving(listen, served, token_file, option="--metrics-listen"):
            yield {DIRECTORY_VARIABLE: directory}


@contextmanager
def _metric_files() -> Iterator[str]:
    """Yield a new directory for metric files, and remove those of pools that were killed.

    A lock tells whether a directory's pool lives. Process ids would not: containers share directories, not processes.
    """
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/lock"):
        with suppress(OSError), lock.open() as file:
            if time.time() - lock.stat().st_mtime > _YOUNG_S:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as directory, Path(directory, "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield directory


def is_wanted() -> bool:
    """Return whether this process is a worker whose metrics are served."""
    return DIRECTORY_VARIABLE in os.environ
