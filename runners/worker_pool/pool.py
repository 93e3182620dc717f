"""Pool of Flink's Python workers: it starts each worker as a process of its own, watches and ends it."""

import json
import logging
import os
import selectors
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.utils import thread_pool_executor
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.kafka.offset_ranges import Advance
from orion_beam.monitoring.server import Answer, Page, UnavailableError, host_and_port, is_loopback
from orion_beam.runners.worker_pool.exposition import DIRECTORY_VARIABLE, add_up_ended, worker_exposition
from orion_beam.runners.worker_pool.process import Ending, Request, Worker, how_it_ended
from orion_beam.runners.worker_pool.token import TokenGuard
from orion_beam.runners.worker_pool.versions import own_versions, refusal, versions_handler
from orion_beam.runners.worker_pool.worker import PROGRESS_VARIABLE
from orion_beam.sizes import format_mib
from orion_beam.text_files.private import read_token

_logger = logging.getLogger(__name__)

KILLED_ABOVE = 1.25
"""A worker above this multiple of its memory limit is killed at once."""

_BUNDLE_LIMIT_S = 60.0
"""Time that a worker above its memory limit gets for the bundles under way."""
_LOOK_EVERY_S = 0.5
_CALM_S = 5.0
"""Spares are started when Flink has not asked for workers for this long: they would slow down those that start."""
_MAX_PAUSE_S = 60.0
_STARTS_OF_A_REQUEST = 5
"""Workers that are started for one request of Flink, when each ends before the task manager has it, with growing
pauses. After that the request fails, and Flink restarts the job."""
_ENDING = "this worker pool is ending: it starts no workers"
_STUCK_S = 30.0


@dataclass(frozen=True)
class PoolLimits:
    """What the workers of a pool may take.

    Attributes:
        spares: Number of workers to start before Flink asks for them, since a start takes some seconds.
        keeps_spares: Whether each spare that Flink takes is replaced, for the next start of a job.
        memory_bytes: Resident memory above which a worker is ended after its bundles; None for no limit.
        drain_s: Longest time in which workers may finish their bundles when the pool ends, in seconds.
    """

    spares: int = 0
    keeps_spares: bool = False
    memory_bytes: int | None = None
    drain_s: float = 0.0


class _WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer, Collector):  # type: ignore[misc]
    """Beam's service of a worker pool. It is also the source of the pool's own metrics."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._workers: set[Worker] = set()
        self._environment: Mapping[str, str] = {}
        self._inherited: tuple[int, ...] = ()
        self._lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._watcher = threading.Thread(target=self._watch, name="orion-worker-pool", daemon=True)
        self._is_over = self._is_draining = False
        self._has_begun = self._were_spares_started = self._were_spares_ready = False
        self._looked_at = self._asked_at = time.monotonic()
        self._failed_spares = 0
        self._next_spare_at = 0.0
        self._waiting: list[tuple[float, Request, int]] = []
        self._ended: Counter[Ending] = Counter(dict.fromkeys(Ending, 0))

    def begin(self, environment: Mapping[str, str], progress: IO[str] | None) -> None:
        """Start the spares.

        Args:
            environment: Variables of the workers, in addition to this process's.
            progress: Pipe to which workers write how many offsets they read.
        """
        self._inherited = () if progress is None else (progress.fileno(),)
        self._environment = os.environ | environment | {PROGRESS_VARIABLE: "".join(map(str, self._inherited))}
        self._asked_at -= _CALM_S
        self._has_begun = True
        self._watcher.start()

    def StartWorker(self, request: beam_fn_api_pb2.StartWorkerRequest, context: grpc.ServicerContext) -> object:  # noqa: N802 - Beam's name
        """Tell a worker to connect to the JVM, unless the job has other versions, and answer when it has connected.

        After an answer without error, Flink waits for the worker for ever. While it waits for the answer, it notices
        that this pool has ended.
        """
        if why := refusal(request.params, own_versions()):
            _logger.warning(why)
            return beam_fn_api_pb2.StartWorkerResponse(error=why)
        with self._lock:
            if self._is_draining:
                return beam_fn_api_pb2.StartWorkerResponse(error=_ENDING)
            self._asked_at = time.monotonic()
            asked = Request(request)
            self._serve(asked, starts=1)
        if context.add_callback(asked.answer.cancel):
            with suppress(CancelledError):
                return beam_fn_api_pb2.StartWorkerResponse(error=asked.answer.result())
        return beam_fn_api_pb2.StartWorkerResponse(error="nobody waits for this answer")

    def StopWorker(self, _: beam_fn_api_pb2.StopWorkerRequest, __: object) -> object:  # noqa: N802 - Beam's name
        """Do nothing. The caller has closed its connection to the worker, by which the worker ends.

        The id names no single worker: each job in each task manager counts from 1.
        """
        return beam_fn_api_pb2.StopWorkerResponse()

    def collect(self) -> Iterator[Metric]:
        """Return the pool's own metrics."""
        with self._lock:
            serving = [worker for worker in self._workers if worker.request is not None]
            spares = sum(worker.is_ready for worker in self._workers if worker.request is None)
            used = max((worker.resident_bytes() for worker in self._workers), default=0)
            ended = dict(self._ended)
        yield GaugeMetricFamily("orion_workers", "Workers that Flink uses.", value=len(serving))
        yield GaugeMetricFamily("orion_worker_spares", "Workers that wait for Flink.", value=spares)
        yield GaugeMetricFamily("orion_worker_memory_bytes", "Memory of the largest worker.", value=used)
        counter = CounterMetricFamily("orion_workers_ended", "Workers that have ended.", labels=["reason"])
        for ending, count in ended.items():
            counter.add_metric([ending.value], count)
        yield counter

    def pages(self) -> dict[str, Page]:
        """Return the pages for probes: `/live` and `/ready`, with status 503 and the reason when it is not so."""
        return {"/live": lambda _: _page(self.why_not_live()), "/ready": lambda _: _page(self.why_not_ready())}

    def why_not_live(self) -> str:
        """Return why this pool should be restarted; the empty text if it works."""
        silent_s = time.monotonic() - self._looked_at
        return f"the pool has not looked at its workers for {silent_s:.0f} s" if silent_s > _STUCK_S else ""

    def why_not_ready(self) -> str:
        """Return why this pool cannot start workers at once; the empty text if it can."""
        if self._is_draining:
            return "the pool is ending"
        if self._failed_spares:
            return "workers end before they are ready: the log of the pool says why"
        if not self._were_spares_ready:
            return "spare workers load or compile the code of jobs"
        return ""

    def drain(self) -> None:
        """Start no more workers, and wait until all have finished their bundles and ended, or until the time is up."""
        with self._lock:
            self._is_draining = True
            self._refuse_all()
            for worker in self._workers:
                reason = "the worker pool ends, and Flink needs another: start `orion-beam workers` again"
                worker.finish(Ending.STOPPED, reason, self._limits.drain_s)
        until = time.monotonic() + self._limits.drain_s + _LOOK_EVERY_S * 10
        while self._workers and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S / 5)

    def stop(self) -> None:
        """End all workers that still run."""
        with self._lock:
            self._is_over = self._is_draining = True
            self._refuse_all()
            for worker in self._workers:
                worker.ending = worker.ending or Ending.STOPPED
                worker.terminate()
        if self._has_begun:
            self._watcher.join()
        for worker in self._workers:
            worker.await_end()
        self._selector.close()

    def _refuse_all(self) -> None:
        """Answer all requests whose worker the task manager does not have yet."""
        for request in (*(worker.request for worker in self._workers), *(request for _, request, _ in self._waiting)):
            if request is not None:
                request.settle(_ENDING)

    def _serve(self, request: Request, starts: int) -> None:
        """Give a request of Flink to a spare, or to a new worker.

        Args:
            request: The request.
            starts: Number of workers that have got the request, this one included.
        """
        spares = [worker for worker in self._workers if worker.request is None and worker.ending is None]
        ready = (worker for worker in spares if worker.is_ready)
        (next(ready, None) or next(iter(spares), None) or self._start()).serve(request, starts)

    def _start(self) -> Worker:
        worker = Worker(self._environment, self._inherited)
        self._workers.add(worker)
        self._selector.register(worker, selectors.EVENT_READ, worker)
        return worker

    def _watch(self) -> None:
        while not self._is_over:
            with self._lock:
                self._keep_spares()
            for key, _ in self._selector.select(_LOOK_EVERY_S):
                if not key.data.hear():
                    self._selector.unregister(key.data)
                    # The process is about to end.
                    time.sleep(_LOOK_EVERY_S / 10)
            with self._lock:
                for worker in list(self._workers):
                    self._look_at(worker)
                self._serve_again()
            self._looked_at = time.monotonic()

    def _look_at(self, worker: Worker) -> None:
        """Notice that a worker is ready, has ended, or takes too much memory or time."""
        if worker.request is None and worker.is_ready:
            self._failed_spares = 0
        if worker.request is not None and worker.is_connected:
            worker.request.settle()
        if (code := worker.exit_code()) is not None:
            self._bury(worker, code)
        elif worker.is_overdue():
            _logger.warning("%s has not finished its bundles in time: it is killed, and Flink repeats them", worker)
            worker.ending = Ending.MEMORY_KILLED if worker.ending is Ending.MEMORY else worker.ending
            worker.kill()
        elif worker.request is not None and worker.request.answer.cancelled() and worker.ending is None:
            # Its task manager has gone, or has another worker.
            worker.ending = Ending.STOPPED
            worker.terminate()
        elif self._limits.memory_bytes is not None and worker.is_connected:
            self._limit(worker, self._limits.memory_bytes)

    def _limit(self, worker: Worker, limit: int) -> None:
        """End a worker that takes more than its memory."""
        used = worker.resident_bytes()
        if used <= limit:
            return
        reason = f"{worker} uses {format_mib(used)} of memory, and its limit is {format_mib(limit)}"
        if used > limit * KILLED_ABOVE and worker.ending is not Ending.MEMORY_KILLED:
            _logger.warning("%s: it is killed at once, and Flink asks for another", reason)
            worker.ending = Ending.MEMORY_KILLED
            worker.kill()
        elif worker.ending is None:
            _logger.warning("%s: it finishes its bundles and ends, and Flink asks for another", reason)
            worker.finish(Ending.MEMORY, reason, _BUNDLE_LIMIT_S)

    def _bury(self, worker: Worker, code: int) -> None:
        """Take note of a worker that has ended, and start another if a task manager waits for it."""
        self._workers.remove(worker)
        with suppress(KeyError, ValueError):
            self._selector.unregister(worker)
        worker.await_end()
        ending = worker.ending or (Ending.STOPPED if code == 0 else Ending.FAILED)
        self._ended[ending] += 1
        if directory := self._environment.get(DIRECTORY_VARIABLE):
            add_up_ended(directory)
        if ending is Ending.FAILED:
            _logger.warning("%s has ended by itself (%s)", worker, how_it_ended(code))
        if self._is_draining:
            return
        if worker.request is None and not worker.is_ready:
            self._failed_spares += 1
            self._next_spare_at = time.monotonic() + min(2.0**self._failed_spares, _MAX_PAUSE_S)
        if worker.request is None or worker.is_connected or worker.request.answer.done():
            return
        if worker.starts < _STARTS_OF_A_REQUEST:
            pause_s = min(2.0**worker.starts - 2, _MAX_PAUSE_S)
            self._waiting.append((time.monotonic() + pause_s, worker.request, worker.starts + 1))
        else:
            why = (
                f"no worker {worker.request.wanted.worker_id} gets as far as its task manager: the pool's log says why"
            )
            _logger.error(why)
            worker.request.settle(why)

    def _serve_again(self) -> None:
        """Serve the requests whose worker has ended too soon, and whose pause is over."""
        now = time.monotonic()
        due = [each for each in self._waiting if each[0] <= now and not self._is_draining]
        self._waiting = [each for each in self._waiting if each not in due]
        for _, request, starts in due:
            if not request.answer.done():
                self._serve(request, starts)

    def _keep_spares(self) -> None:
        """Start the spares that are missing; the first alone, since it may have to compile what the others load."""
        now = time.monotonic()
        spares = [worker for worker in self._workers if worker.request is None]
        if len(spares) == self._limits.spares and all(worker.is_ready for worker in spares):
            self._were_spares_ready = True
        if self._is_draining or now < self._next_spare_at or now < self._asked_at + _CALM_S:
            return
        if not self._limits.keeps_spares and self._were_spares_started:
            return
        self._were_spares_started = True
        is_compiled = not self._limits.keeps_spares or any(worker.is_ready for worker in self._workers)
        for _ in range(len(spares), self._limits.spares if is_compiled else min(self._limits.spares, 1)):
            self._start()


def _page(why_not: str) -> Answer:
    if why_not:
        raise UnavailableError(why_not)
    return "application/json", json.dumps({"versions": dict(own_versions())}).encode()


@contextmanager
def worker_pool(
    listen: str = "127.0.0.1:0",
    metrics_listen: str | None = None,
    *,
    limits: PoolLimits = PoolLimits(),
    token_file: Path | None = None,
    metrics_token: Path | None = None,
    advance: Advance | None = None,
) -> Iterator[str]:
    """Run a pool; yield its address for `--environment_config`.

    Args:
        listen: Address (host:port) for requests for workers; port 0 picks a free one.
        metrics_listen: Address (host:port) of metrics and probes; None for nowhere.
        limits: What the workers may take.
        token_file: File with the token that requests for workers must bear; None for no token.
        metrics_token: File with the token that requests for metrics must bear; None for no token.
        advance: Called, in another thread, with the number of offsets that workers have read since the last call.

    Raises:
        UserError: An address is not of the form host:port, or other machines could reach it, and there is no token.
        PrerequisiteError: The pool cannot listen at its address.
    """
    host, _ = host_and_port(listen)
    if token_file is None and not is_loopback(host):
        raise UserError(
            f"--listen {listen} lets whoever reaches it start processes here: listen on 127.0.0.1, since a task manager"
            " needs its pool on its own host anyway, or give --token-file"
        )
    guards = [] if token_file is None else [TokenGuard(token_file)]
    if metrics_token is not None:
        read_token(metrics_token)
    pool = _WorkerPool(limits)
    with (
        worker_exposition(metrics_listen, pool, pool.pages(), metrics_token) as environment,
        _progress_pipe(advance) as progress,
    ):
        server = grpc.server(thread_pool_executor.shared_unbounded_instance(), interceptors=guards)
        try:
            port = server.add_insecure_port(listen)
        except RuntimeError:
            raise PrerequisiteError(f"cannot listen on {listen}: choose another address") from None
        beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
        server.add_generic_rpc_handlers([versions_handler()])
        pool.begin(environment, progress)
        server.start()
        try:
            yield f"{host}:{port}"
        finally:
            try:
                if limits.drain_s:
                    pool.drain()
            finally:
                server.stop(1)
                pool.stop()


@contextmanager
def _progress_pipe(advance: Advance | None) -> Iterator[IO[str] | None]:
    """Yield the pipe to which workers write progress, which is passed on to `advance`; None without `advance`."""
    if advance is None:
        yield None
        return
    read, write = os.pipe()

    def listen() -> None:
        with open(read) as lines:
            for line in lines:
                # This thread must not end: workers would wait for ever to write to a full pipe.
                with suppress(Exception):
                    advance(int(line))

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    with open(write, "w") as pipe:
        yield pipe
    # All workers have ended, so the pipe is closed and the thread ends.
    listener.join()
