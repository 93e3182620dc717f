"""One worker of a pool, as the pool sees it: its process, what it has told, and how it is ended."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from enum import StrEnum

import psutil
from apache_beam.portability.api import beam_fn_api_pb2

from orion_beam.runners.worker_pool.worker import CONNECTED, FINISH, READY

_KILLED_AFTER_S = 10.0
"""Time that a worker that is stopped gets before it is killed."""


class Ending(StrEnum):
    """Why a worker has ended: the label `reason` of the metric."""

    STOPPED = "stopped"
    """Flink or the pool's end stopped it."""
    MEMORY = "memory"
    """It was above its memory limit, and finished its bundles."""
    MEMORY_KILLED = "memory_killed"
    """It was far above its memory limit, or did not finish its bundles in time."""
    FAILED = "failed"
    """It ended by itself: an error, or the kernel killed it."""


class Request:
    """Flink's request for a worker, which is answered when the task manager has the worker.

    Attributes:
        wanted: What Flink has sent.
        answer: The error of the answer, or the empty text. It is cancelled when the task manager has given up.
    """

    def __init__(self, wanted: beam_fn_api_pb2.StartWorkerRequest) -> None:
        """Take what Flink has sent."""
        self.wanted = wanted
        self.answer: Future[str] = Future()

    def settle(self, error: str = "") -> None:
        """Answer the request, unless it is answered already, or nobody waits for it."""
        with suppress(InvalidStateError):
            self.answer.set_result(error)


class Worker:
    """A worker process.

    Attributes:
        pid: Id of the process.
        request: Flink's request that the worker serves; None for a spare.
        starts: Number of workers that have got this request, this one included.
        is_ready: Whether it has loaded its code.
        is_connected: Whether the task manager has it.
        ending: Why the pool has told it to end; None if the pool has not.
        ends_until: Time (`time.monotonic`) when it is killed; None if the pool has not told it to end.
    """

    def __init__(self, environment: Mapping[str, str], inherited: Sequence[int]) -> None:
        """Start the process.

        Args:
            environment: Its whole environment.
            inherited: File descriptors that it gets from this process.
        """
        self._socket, its_end = socket.socketpair()
        with its_end:
            # In a session of its own a worker does not get Ctrl-C. The submitting process gets it, and stops workers.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orion_beam.runners.worker_pool.worker"],
                stdin=its_end.fileno(),
                start_new_session=True,
                env=dict(environment),
                pass_fds=list(inherited),
            )
        self._heard = b""
        self.pid = self._process.pid
        self.request: Request | None = None
        self.starts = 0
        self.is_ready = self.is_connected = False
        self.ending: Ending | None = None
        self.ends_until: float | None = None

    def __str__(self) -> str:
        """Name it as log lines do."""
        name = "spare worker" if self.request is None else f"worker {self.request.wanted.worker_id}"
        return f"{name} (process {self.pid})"

    def fileno(self) -> int:
        """Return the descriptor of the socket to the process, for a selector."""
        return self._socket.fileno()

    def serve(self, request: Request, starts: int) -> None:
        """Have the worker serve a request of Flink, for which so many workers have been started."""
        self.request, self.starts = request, starts
        self._send(f"{request.wanted.control_endpoint.url} {request.wanted.worker_id}")

    def finish(self, ending: Ending, reason: str, limit_s: float) -> None:
        """Have the worker finish its bundles and end.

        Args:
            ending: Why, for the metric.
            reason: Why, in one line, for Flink's exceptions.
            limit_s: When it has not ended by then, `is_overdue` says so.
        """
        self.ending, self.ends_until = ending, time.monotonic() + limit_s
        self._send(f"{FINISH} {reason}")

    def is_overdue(self) -> bool:
        """Return whether it was told to end, and has had its time."""
        return self.ends_until is not None and time.monotonic() > self.ends_until

    def hear(self) -> bool:
        """Take what the process has told; return whether it can tell more."""
        with suppress(OSError):
            if told := self._socket.recv(4096):
                *lines, self._heard = (self._heard + told).split(b"\n")
                self.is_ready |= READY.encode() in lines
                self.is_connected |= CONNECTED.encode() in lines
                return True
        return False

    def exit_code(self) -> int | None:
        """Return the exit code (the negative number of a signal that ended it), or None while it runs."""
        code: int | None = self._process.poll()
        return code

    def resident_bytes(self) -> int:
        """Return the memory that the process has in use; 0 if it has ended."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def terminate(self) -> None:
        """Ask the process to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def await_end(self, limit_s: float = _KILLED_AFTER_S) -> None:
        """Wait until the process has ended; kill it after `limit_s`."""
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()

    def _send(self, line: str) -> None:
        # A process that has ended is noticed by its exit code.
        with suppress(OSError):
            self._socket.sendall(f"{line}\n".encode())


def how_it_ended(code: int) -> str:
    """Return an exit code in words."""
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
