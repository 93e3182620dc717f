"""The Python workers of Flink: a pool that starts each as a process of its own, and serves the metrics of all."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.worker import statesampler
from apache_beam.runners.worker.sdk_worker import SdkHarness
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer, kill_process_gracefully
from apache_beam.utils import thread_pool_executor

from orion_beam.errors import PrerequisiteError
from orion_beam.logs import set_up_logging
from orion_beam.worker_metrics import install
from runners.guard import end_with_parent
from runners.worker_exposition import is_wanted, worker_exposition

DATA_BUFFER_TIME_LIMIT_MS = 10
"""The data plane is flushed by time, not only by size: it halves the latency."""

SAMPLING_PERIOD_MS = 5
"""Of Beam's clock of its steps. A bundle ends only when that wakes up: by default up to a fifth of its time later."""


class _WorkerPool(BeamFnExternalWorkerPoolServicer):  # type: ignore[misc]
    """Beam's own pool, but for the command: Beam's is whatever `python` is first on the path."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(use_process=True)
        self._environment = environment

    def StartWorker(self, request: beam_fn_api_pb2.StartWorkerRequest, _: object) -> object:  # noqa: N802 - Beam's name
        """Start a worker that connects to the JVM."""
        command = [sys.executable, "-m", "runners.workers", request.control_endpoint.url, request.worker_id]
        # Ctrl-C is for the one who submits the job: who then has the workers stopped.
        environment = os.environ | self._environment
        worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, env=environment)
        self._worker_processes[request.worker_id] = worker
        return beam_fn_api_pb2.StartWorkerResponse()

    def stop(self) -> None:
        """Stop the workers that the JVM has not."""
        for worker in self._worker_processes.values():
            kill_process_gracefully(worker)


@contextmanager
def worker_pool(listen: str = "127.0.0.1:0", metrics_listen: str | None = None) -> Iterator[str]:
    """Run a pool; give its address for `--environment_config`.

    Args:
        listen: where it takes requests for workers; port 0 is any.
        metrics_listen: where it serves its workers' metrics; None: nowhere.

    Raises:
        PrerequisiteError: it cannot listen there.
    """
    host, _, _ = listen.rpartition(":")
    with worker_exposition(metrics_listen) as environment:
        pool = _WorkerPool(environment)
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


def main() -> None:
    """Be a worker, until the JVM says that there is no more work, or is gone."""
    set_up_logging()
    silence_lost_peers()
    end_with_parent()
    if is_wanted():
        install()
    # bundle_processor names no period, and there is no option for it.
    statesampler.StateSampler = partial(statesampler.StateSampler, sampling_period_ms=SAMPLING_PERIOD_MS)
    control_address, worker_id = sys.argv[1:]
    harness = SdkHarness(control_address, worker_id=worker_id, data_buffer_time_limit_ms=DATA_BUFFER_TIME_LIMIT_MS)
    try:
        harness.run()
    except grpc.RpcError:
        sys.exit("the JVM is gone: this worker ends")


if __name__ == "__main__":
    main()
