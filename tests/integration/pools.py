"""Worker pools of tests: `orion-beam workers` as a process, its probes and metrics, and its workers."""

import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from orion_beam.runners.jars.build import guard_environment
from orion_beam.runners.local.broker import HOST, free_ports
from orion_beam.runners.local.processes import is_alive
from tests.integration.harness import await_until
from tests.integration.task_manager import START_TIMEOUT_S

WORKER_MODULE = "orion_beam.runners.worker_pool.worker"


def workers_of(pool: psutil.Process) -> list[psutil.Process]:
    """Return the workers of a pool that run."""
    found = []
    for process in pool.children():
        try:
            if WORKER_MODULE in process.cmdline() and is_alive(process):
                found.append(process)
        except psutil.Error:
            continue
    return found


def metrics_at(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def probe(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Pool:
    """`orion-beam workers`, as a process of its own.

    Args:
        directory: Its working directory, with its log; created when missing.
        options: Options of the command.
        address: Address at which task managers ask for workers; by default a free port of this host.
        environment: Variables, in addition to this process's.
    """

    def __init__(self, directory: Path, *options: str, address: str | None = None, **environment: str) -> None:
        port, self.metrics_port = free_ports(2)
        self.address, self.probes = address or f"{HOST}:{port}", f"{HOST}:{self.metrics_port}"
        directory.mkdir(exist_ok=True)
        self._log = directory / "workers.log"
        self._command = [sys.executable, "-m", "orion_beam.cli.main", "workers", "--listen", self.address]
        self._command += ["--metrics-listen", self.probes, *options]
        self._environment = os.environ | guard_environment() | environment
        self.start()

    def start(self) -> None:
        """Start the pool, again at the same addresses when it has ended."""
        with self._log.open("ab") as log:
            self.process = psutil.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, cwd=self._log.parent
            )

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(encoding="utf-8")

    def await_ready(self) -> None:
        """Wait until it says that it is ready."""

        def is_ready() -> bool:
            assert is_alive(self.process), self.log
            try:
                return probe(self.probes, "/ready")[0] == 200
            except OSError:
                return False

        await_until(is_ready, START_TIMEOUT_S, "the pool is ready")

    def await_draining(self) -> None:
        """Wait until it says that it ends.

        Raises:
            AssertionError: It does not; the message has its log, and where its threads stand.
        """
        try:
            await_until(lambda: probe(self.probes, "/ready")[0] == 503, START_TIMEOUT_S, "the pool ends")
        except AssertionError:
            self.process.send_signal(signal.SIGQUIT)
            await_until(lambda: "(most recent call first)" in self.log, 60, "the pool says where its threads stand")
            raise AssertionError(self.log) from None

    def clean_up(self) -> None:
        """Kill it if it still runs."""
        if is_alive(self.process):
            self.process.kill()
        self.process.wait()
