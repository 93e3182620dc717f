"""The Python workers of Flink: a pool that starts each as a process of its own, and serves the metrics of all."""

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
from orion_beam.runners.flink_parts.worker_exposition import is_wanted, worker_exposition
from orion_beam.telemetry.logs import set_up_logging
from orion_beam.telemetry.worker_metrics import install
from orion_beam.transforms.arrow.compiled import compile_all

DATA_BUFFER_TIME_LIMIT_MS = 10
"""The data plane is flushed by time, not only by size: it halves the latency."""

SAMPLING_PERIOD_MS = 5
"""Of Beam's clock of its steps. A bundle ends only when that wakes up: by default up to a fifth of its time later."""


_PROGRESS = "ORION_PROGRESS_FD"
"""Names, in a worker's environment, the pipe to which it writes how many offsets further a replay is, line by line."""


class _WorkerPool(BeamFnExternalWorkerPoolServicer):  # type: ignore[misc]
    """Beam's own pool, but for the command: Beam's is whatever `python` is first on the path.

    Args:
        environment: of the workers, besides this process's.
        spares: how many workers to start before they are asked for, as it takes them some seconds.
        progress: where they write what replays have read.
    """

    def __init__(self, environment: Mapping[str, str], spares: int, progress: IO[str] | None) -> None:
        super().__init__(use_process=True)
        self._inherited = () if progress is None else (progress.fileno(),)
        self._environment = os.environ | environment | {_PROGRESS: "".join(map(str, self._inherited))}
        self._spares = [self._start() for _ in range(spares)]

    def _start(self) -> "subprocess.Popen[str]":
        # Ctrl-C is for the one who submits the job: who then has the workers stopped.
        return subprocess.Popen(
            [sys.executable, "-m", "orion_beam.runners.flink_parts.workers"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=self._environment,
            pass_fds=self._inherited,
        )

    def StartWorker(self, request: beam_fn_api_pb2.StartWorkerRequest, _: object) -> object:  # noqa: N802 - Beam's name
        """Have a worker connect to the JVM."""
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
        """Stop the workers that the JVM has not."""
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
    """Run a pool; give its address for `--environment_config`.

    Args:
        listen: where it takes requests for workers; port 0 is any.
        metrics_listen: where it serves its workers' metrics; None: nowhere.
        spares: how many workers to start at once, before anybody asks for them.
        advance: told, in a thread, how many offsets further the replays that its workers read are.

    Raises:
        UserError: an address is none.
        PrerequisiteError: it cannot listen there.
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
        server.start()
        try:
            yield f"{host}:{port}"
        finally:
            server.stop(1)
            pool.stop()


@contextmanager
def _progress_pipe(advance: Advance | None) -> Iterator[IO[str] | None]:
    """Give what workers are to write progress to, if somebody wants to be told."""
    if advance is None:
        yield None
        return
    read, write = os.pipe()

    def listen() -> None:
        with open(read) as lines:
            for line in lines:
                # Workers would wait for ever to write if this thread ended.
                with suppress(Exception):
                    advance(int(line))

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    with open(write, "w") as pipe:
        yield pipe
    # The workers are gone, so that it comes to an end.
    listener.join()


def silence_lost_peers() -> None:
    """Keep Beam's threads from telling at length, each for itself, that the JVM they talk to is gone."""
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
    # Whoever listened may be gone: a worker then ends by itself.
    with suppress(BrokenPipeError):
        os.write(descriptor, line)


def _load() -> None:
    """Load what a job is made of."""
    importlib.import_module("orion_beam.pipeline")
    compile_all()
    look_at_less()


def main() -> None:
    """Wait for the address of a JVM and a name, and be its worker until it has no more work, or is gone."""
    set_up_logging()
    silence_lost_peers()
    end_with_parent()
    if is_wanted():
        install()
    # What it prints without asking the log stands in the log as well, with numbers masked.
    sdk_worker.print = lambda *_, **__: None
    # bundle_processor names no period, and there is no option for it.
    statesampler.StateSampler = partial(statesampler.StateSampler, sampling_period_ms=SAMPLING_PERIOD_MS)
    if descriptor := os.environ.get(_PROGRESS):
        # A line is short enough to be written as a whole.
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
