"""Pool of Flink's Python workers: it starts each worker as a process of its own, and serves the metrics of all."""

import importlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.worker import sdk_worker, statesampler
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer, kill_process_gracefully
from apache_beam.utils import thread_pool_executor

from orion_beam.errors import PrerequisiteError
from orion_beam.io.offset_range_source import on_progress
from orion_beam.kafka.offset_ranges import Advance
from orion_beam.monitoring.server import host_and_port
from orion_beam.runners.flink_parts.collector import look_at_less
from orion_beam.runners.flink_parts.parent_guard import end_with_parent
from orion_beam.runners.worker_pool.exposition import is_wanted, worker_exposition
from orion_beam.runners.worker_pool.versions import own_versions, refusal, versions_handler
from orion_beam.telemetry.logs import set_up_logging
from orion_beam.telemetry.worker_metrics import install
from orion_beam.transforms.arrow.compiled import compile_all

DATA_BUFFER_TIME_LIMIT_MS = 10
"""Longest time that output waits in a worker's buffer. Beam's default flushes by size only; this halves the latency."""

SAMPLING_PERIOD_MS = 5
"""Period of Beam's sampler of step times. A bundle ends only when the sampler wakes up: by default up to a fifth of the
bundle's time later."""


_logger = logging.getLogger(__name__)

_PROGRESS = "ORION_PROGRESS_FD"
"""Environment variable with the descriptor of a pipe. A worker writes to it, line by line, how many offsets it read."""


class _WorkerPool(BeamFnExternalWorkerPoolServicer):  # type: ignore[misc]
    """Beam's pool with another command for workers: Beam itself runs the first `python` on the path.

    Args:
        environment: Variables of the workers, in addition to this process's.
        spares: Number of workers to start before Flink asks for them, since a start takes some seconds.
        progress: Pipe to which workers write how many offsets they read.
    """

    def __init__(self, environment: Mapping[str, str], spares: int, progress: IO[str] | None) -> None:
        super().__init__(use_process=True)
        self._inherited = () if progress is None else (progress.fileno(),)
        self._environment = os.environ | environment | {_PROGRESS: "".join(map(str, self._inherited))}
        self._spares = [self._start() for _ in range(spares)]

    def _start(self) -> "subprocess.Popen[str]":
        # In a session of its own a worker does not get Ctrl-C. The submitting process gets it, and stops the workers.
        return subprocess.Popen(
            [sys.executable, "-m", "orion_beam.runners.worker_pool.pool"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=self._environment,
            pass_fds=self._inherited,
        )

    def StartWorker(self, request: beam_fn_api_pb2.StartWorkerRequest, _: object) -> object:  # noqa: N802 - Beam's name
        """Tell a worker to connect to the JVM, unless the job has other versions than this pool."""
        if why := refusal(request.params, own_versions()):
            _logger.warning(why)
            return beam_fn_api_pb2.StartWorkerResponse(error=why)
        try:
            worker = self._spares.pop()
        except IndexError:
            worker = self._start()
        self._worker_processes[request.worker_id] = worker
        assert worker.stdin is not None
        with worker.stdin:
            worker.stdin.write(f"{request.control_endpoint.url} {request.worker_id}")
        return beam_fn_api_pb2.StartWorkerResponse()

    def stop(self) -> None:
        """Stop the workers that the JVM has not stopped."""
        for worker in (*self._spares, *self._worker_processes.values()):
            kill_process_gracefully(worker)


@contextmanager
def worker_pool(
    listen: str = "127.0.0.1:0",
    metrics_listen: str | None = None,
    *,
    spares: int = 0,
    advance: Advance | None = None,
) -> Iterator[str]:
    """Run a pool; yield its address for `--environment_config`.

    Args:
        listen: Address (host:port) for requests for workers; port 0 picks a free one.
        metrics_listen: Address (host:port) of the workers' metrics; None for nowhere.
        spares: Number of workers to start at once, before Flink asks for them.
        advance: Called, in another thread, with the number of offsets that workers have read since the last call.

    Raises:
        UserError: An address is not of the form host:port.
        PrerequisiteError: The pool cannot listen at its address.
    """
    host, _ = host_and_port(listen)
    with worker_exposition(metrics_listen) as environment, _progress_pipe(advance) as progress:
        pool = _WorkerPool(environment, spares, progress)
        server = grpc.server(thread_pool_executor.shared_unbounded_instance())
        try:
            port = server.add_insecure_port(listen)
        except RuntimeError:
            raise PrerequisiteError(f"cannot listen on {listen}: choose another address") from None
        beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
        server.add_generic_rpc_handlers([versions_handler()])
        server.start()
        try:
            yield f"{host}:{port}"
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


def silence_lost_peers() -> None:
    """Suppress the tracebacks and log lines with which each of Beam's threads reports that it has lost the JVM."""
    hook = threading.excepthook

    def say_unless_lost(thread: threading.ExceptHookArgs) -> None:
        if not issubclass(thread.exc_type, grpc.RpcError):
            hook(thread)

    def is_not_lost(record: logging.LogRecord) -> bool:
        return record.exc_info is None or not isinstance(record.exc_info[1], grpc.RpcError)

    threading.excepthook = say_unless_lost
    for handler in logging.getLogger().handlers:
        handler.addFilter(is_not_lost)


def _write(descriptor: int, line: bytes) -> None:
    # The reader may have ended; the worker then ends by itself.
    with suppress(BrokenPipeError):
        os.write(descriptor, line)


def _load() -> None:
    """Import the modules of a job, compile its kernels, and then set up the garbage collector."""
    importlib.import_module("orion_beam.pipeline")
    compile_all()
    look_at_less()


def main() -> None:
    """Read the address of a JVM and a worker id from standard input, and work for that JVM until it ends.

    Loading happens before the read, so that a spare worker is ready when Flink asks for it.
    """
    set_up_logging()
    silence_lost_peers()
    end_with_parent()
    if is_wanted():
        install()
    # sdk_worker prints errors past the log. They also go to the log, which masks subscribers' numbers.
    sdk_worker.print = lambda *_, **__: None
    # Beam has no option for the period.
    statesampler.StateSampler = partial(statesampler.StateSampler, sampling_period_ms=SAMPLING_PERIOD_MS)
    if descriptor := os.environ.get(_PROGRESS):
        # A line is shorter than PIPE_BUF, so that lines of several workers do not mix.
        on_progress(lambda offsets: _write(int(descriptor), f"{offsets}\n".encode()))
    _load()
    if not (told := sys.stdin.read()):
        return
    control_address, worker_id = told.split(maxsplit=1)
    harness = sdk_worker.SdkHarness(
        control_address, worker_id=worker_id, data_buffer_time_limit_ms=DATA_BUFFER_TIME_LIMIT_MS
    )
    try:
        harness.run()
    except grpc.RpcError:
        sys.exit("the JVM is gone: this worker ends")


if __name__ == "__main__":
    main()
