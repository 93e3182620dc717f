"""One Kafka broker, which is a controller too: its JVM, its directory and its settings."""

import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from orion_beam.runners.jars.build import GUARD, find_java, guard_environment

HOST = "127.0.0.1"
BROKER_STOP_TIMEOUT_S = 30.0

_LOGGING_PROPERTIES = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1}: %m%n%throwable
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


@dataclass(frozen=True)
class Ports:
    """Ports of a broker: for clients, for the other controllers, and for Prometheus, if the broker serves metrics."""

    broker: int
    controller: int
    metrics: int | None = None


class Broker:
    """One broker of a cluster.

    Args:
        number: Node id, from 1.
        directory: Directory for data, settings and log; created when missing.
        jvm: Options of the JVM, such as the size of its heap.
        detached: Whether the broker goes on when this process ends, in a session of its own.
    """

    def __init__(self, number: int, directory: Path, jvm: Sequence[str], detached: bool) -> None:
        """Store the settings; `launch` starts the broker."""
        self.number = number
        self.log_file = directory / "broker.log"
        self._directory = directory
        self._properties = directory / "server.properties"
        self._logging = directory / "log4j2.properties"
        self._jvm = jvm
        self._detached = detached
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_formatted(self) -> bool:
        """Whether the broker's storage is formatted."""
        return (self._directory / "data" / "meta.properties").exists()

    @property
    def is_running(self) -> bool:
        """Whether the broker's process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id.

        Raises:
            RuntimeError: The broker has not been started, or was stopped.
        """
        if self._process is None:
            raise RuntimeError(f"broker {self.number} is not running")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of a process that ended by itself; None while it runs, and for a broker that was stopped."""
        return None if self._process is None else self._process.poll()

    @property
    def log(self) -> str:
        """Text that the broker has printed since its start."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def configure(self, ports: Ports, settings: Mapping[str, str]) -> None:
        """Write the broker's settings file: number, ports and directory, overridden by `settings`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        own = {
            "process.roles": "broker,controller",
            "node.id": str(self.number),
            "listeners": f"PLAINTEXT://{HOST}:{ports.broker},CONTROLLER://{HOST}:{ports.controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{ports.broker}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": (self._directory / "data").as_posix(),
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in (own | dict(settings)).items()))
        self._logging.write_text(_LOGGING_PROPERTIES)

    def format(self, classpath: str, cluster_id: str) -> None:
        """Start to format the broker's storage; `wait` returns the exit code."""
        arguments = ["--cluster-id", cluster_id, "--config", str(self._properties), "--ignore-formatted"]
        self._run([*self._java(classpath), "kafka.tools.StorageTool", "format", *arguments])

    def launch(self, classpath: str, jvm: Sequence[str] = ()) -> None:
        """Start the broker with additional JVM options. It takes some seconds until the broker answers."""
        # A detached broker runs without the guard, which would end it with the command that started it.
        main = ["kafka.Kafka"] if self._detached else ["-Dorion.main.class=kafka.Kafka", GUARD]
        java, *options = self._java(classpath)
        self._run([java, *jvm, *options, *main, str(self._properties)])

    def wait(self) -> int:
        """Wait until the process ends by itself, and return its exit code."""
        assert self._process is not None
        code = self._process.wait()
        self._process = None
        return code

    def terminate(self) -> None:
        """Ask the broker to shut down, so that its data are complete on disk."""
        if self._process is not None:
            self._process.terminate()

    def await_end(self) -> None:
        """Wait until the broker has shut down; kill it when that takes too long."""
        if self._process is not None:
            try:
                self._process.wait(BROKER_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End the broker as a crash would. Its data survive."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def disown(self) -> None:
        """Forget the broker, which goes on. A thread reaps it if it ends before this process."""
        if self._process is not None:
            threading.Thread(target=self._process.wait, name="orion-local-kafka-reaper", daemon=True).start()
            self._process = None

    def _java(self, classpath: str) -> list[str]:
        return [find_java(), *self._jvm, f"-Dlog4j2.configurationFile={self._logging}", "-cp", classpath]

    def _run(self, command: list[str]) -> None:
        environment = os.environ | ({} if self._detached else guard_environment())
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=self._detached,
            )


def is_taken(port: int) -> bool:
    """Return whether a process listens on a port. Connections in TIME_WAIT do not count, as Kafka can bind then."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago. Another process may take one at any time."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
