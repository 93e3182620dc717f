"""One Python worker of a pool: a process that loads the code of jobs, and then works for one task manager.

Its standard input is a socket to its pool. Both sides write lines:

    worker to pool   ready                  the code is loaded
                     connected              the task manager has the worker
    pool to worker   CONTROL_ADDRESS ID     connect to the task manager
                     finish REASON          finish the bundles under way, start no others, and end

A worker whose pool has ended finishes its bundles and ends.
"""

import importlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import IO, NoReturn

import grpc
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker import sdk_worker, statesampler
from apache_beam.utils.sentinel import Sentinel

from orion_beam.io.offset_range_source import on_progress
from orion_beam.runners.flink_parts.collector import look_at_less
from orion_beam.runners.worker_pool.exposition import is_wanted
from orion_beam.telemetry.logs import set_up_logging
from orion_beam.telemetry.worker_metrics import install
from orion_beam.transforms.arrow.compiled import compile_all
from orion_beam.transforms.stage.time_limit import enforce_time_limits

DATA_BUFFER_TIME_LIMIT_MS = 10
"""Longest time that output waits in a worker's buffer. Beam's default flushes by size only; this halves the latency."""

SAMPLING_PERIOD_MS = 5
"""Period of Beam's sampler of step times. A bundle ends only when the sampler wakes up: by default up to a fifth of the
bundle's time later."""

PROGRESS_VARIABLE = "ORION_PROGRESS_FD"
"""Environment variable with the descriptor of a pipe. A worker writes to it, line by line, how many offsets it read."""

READY, CONNECTED, FINISH = "ready", "connected", "finish"
"""Words of the two sides, see above."""

_FIRST_BUNDLE_S = 10.0
"""Time in which a worker that ends before it has had a bundle gets one, and does it. Flink waits three minutes for the
output of a first bundle, even if the worker has refused it."""
_NEXT_BUNDLE_S = 2.0
"""Time in which a worker that ends answers a next bundle with its reason, so that Flink's exceptions show it."""
_CONNECTED_AFTER_S = 0.5
"""Time after which the task manager has the connection of a harness that runs."""
_LOOK_EVERY_S = 0.1
_GRACE_S = 2.0


class _Harness(sdk_worker.SdkHarness):  # type: ignore[misc]
    """Beam's harness, which can also finish its bundles and end."""

    def __init__(self, control_address: str, worker_id: str) -> None:
        super().__init__(control_address, worker_id=worker_id, data_buffer_time_limit_ms=DATA_BUFFER_TIME_LIMIT_MS)
        self._bundles = threading.Condition()
        self._under_way = 0
        self._has_had_one = False
        self._reason = ""
        self._has_refused = threading.Event()
        self.is_finished = False

    def _request_process_bundle(self, request: beam_fn_api_pb2.InstructionRequest) -> None:
        with self._bundles:
            reason = self._reason if self._has_had_one else ""
            self._under_way += not reason
            self._has_had_one = True
            self._bundles.notify_all()
        if reason:
            # Flink repeats the bundle in another worker.
            self._responses.put(
                beam_fn_api_pb2.InstructionResponse(instruction_id=request.instruction_id, error=reason)
            )
            self._has_refused.set()
        else:
            super()._request_process_bundle(request)

    def _execute(self, task: object, request: beam_fn_api_pb2.InstructionRequest) -> None:
        super()._execute(task, request)
        if request.WhichOneof("request") == "process_bundle":
            with self._bundles:
                self._under_way -= 1
                self._bundles.notify_all()

    def await_end(self) -> None:
        """Wait until the task manager has let go of this worker, and end the process if bundles still hold it then.

        A bundle may wait for a broker, and nobody takes its results any more. Flink's StopWorker is no help: ids of
        workers are unique within one job and task manager only.
        """
        while self._alive:
            time.sleep(_LOOK_EVERY_S)
        time.sleep(_GRACE_S)
        os._exit(0)

    def finish(self, reason: str) -> None:
        """Finish the bundles under way, and the first one if there was none yet, refuse others, and make `run` return.

        Args:
            reason: Why, for Flink's exceptions and the log.
        """
        with self._bundles:
            self._reason = self._reason or reason
            self._bundles.wait_for(lambda: self._has_had_one, _FIRST_BUNDLE_S)
            self._bundles.wait_for(lambda: not self._under_way)
        self._has_refused.wait(_NEXT_BUNDLE_S)
        self.is_finished = True
        self._responses.put(Sentinel.sentinel)


class _Pool:
    """The pool of this worker, as the worker sees it.

    Args:
        stream: Socket to the pool.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._requests: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._harness: _Harness | None = None
        signal.signal(signal.SIGTERM, self._on_sigterm)
        threading.Thread(target=self._listen, name="orion-pool", daemon=True).start()

    def tell(self, line: str) -> None:
        """Send a line to the pool."""
        # A pool that has ended is noticed by the listening thread.
        with suppress(OSError):
            os.write(self._stream.fileno(), f"{line}\n".encode())

    def await_request(self) -> tuple[str, str]:
        """Return the address of a task manager and the id that this worker has there."""
        return self._requests.get()

    def use(self, harness: _Harness) -> None:
        """Let the pool know and end a harness that is about to run."""
        self._harness = harness
        threading.Thread(target=self._accompany, args=(harness,), name="orion-harness", daemon=True).start()

    def _listen(self) -> None:
        for line in self._stream:
            word, _, rest = line.strip().partition(" ")
            if word == FINISH:
                self._end(rest)
            else:
                self._requests.put((word, rest))
        self._end("the pool of this worker has ended")

    def _accompany(self, harness: _Harness) -> None:
        # A task manager that waits says nothing when it gets the connection, so this much must do.
        time.sleep(_CONNECTED_AFTER_S)
        self.tell(CONNECTED)
        harness.await_end()

    def _on_sigterm(self, _: int, __: FrameType | None) -> None:
        # A signal's handler must not wait.
        threading.Thread(target=self._end, args=("this worker is stopped",), daemon=True).start()

    def _end(self, reason: str) -> None:
        if self._harness is None:
            os._exit(0)
        self._harness.finish(reason)


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


def load_code() -> None:
    """Import the modules of a job, and compile its kernels or load them from the cache."""
    importlib.import_module("orion_beam.pipeline")
    compile_all()


def main() -> None:
    """Wait for the address of a JVM and a worker id, and work for that JVM until it, the pool or this worker ends.

    Loading happens before the wait, so that a spare worker is ready when Flink asks for it.
    """
    set_up_logging()
    silence_lost_peers()
    if is_wanted():
        install()
    # sdk_worker prints errors past the log. They also go to the log, which masks subscribers' numbers.
    sdk_worker.print = lambda *_, **__: None
    # Beam has no option for the period.
    statesampler.StateSampler = partial(statesampler.StateSampler, sampling_period_ms=SAMPLING_PERIOD_MS)
    if descriptor := os.environ.get(PROGRESS_VARIABLE):
        # A line is shorter than PIPE_BUF, so that lines of several workers do not mix.
        on_progress(lambda offsets: _write(int(descriptor), f"{offsets}\n".encode()))
    pool = _Pool(sys.stdin)
    load_code()
    look_at_less()
    enforce_time_limits()
    pool.tell(READY)
    address, worker_id = pool.await_request()
    try:
        harness = _Harness(address, worker_id)
    except grpc.FutureTimeoutError:
        # The job has restarted meanwhile.
        print(f"nothing answers at {address} for a minute: worker {worker_id} ends", file=sys.stderr)
        _leave(1)
    pool.use(harness)
    try:
        harness.run()
    except grpc.RpcError:
        if not harness.is_finished:
            print("the JVM is gone: this worker ends", file=sys.stderr)
    if harness.is_finished:
        # Connections that break would reach Flink before the reason for which the last bundle was refused.
        time.sleep(_GRACE_S)
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End the process at once: threads of Beam, Arrow and librdkafka still run.

    Python's own end stops them wherever they are, and one that is stopped within C++ ends the process with SIGABRT.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
