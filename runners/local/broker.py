"""One Kafka broker, which is a controller too: its JVM, its directory and its settings."""

import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from orion_beam.runners.jars.build import GUARD, find_java, guard_environment

HOST = "127.0.0.1"
BROKER_STOP_TIMEOUT_S = 30.0

_FIRST_PORT = 12_000
_LAST_PORT = 65_536
_CLIENT_PORTS = 32_768
"""Where the range of client ports begins on Linux, unless it is set otherwise."""
_LEAST_CHOICE = 2_000

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
        self._temporary = directory / "tmp"
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
        self._temporary.mkdir(parents=True, exist_ok=True)
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
        own = [f"-Djava.io.tmpdir={self._temporary}", f"-Dlog4j2.configurationFile={self._logging}"]
        return [find_java(), *self._jvm, *own, "-cp", classpath]

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
    """Return ports on which nobody listened a moment ago.

    They lie below the range from which the kernel takes the client's port of a connection. In that range, a client that
    tries again and again to reach a server that is down may get the server's own port, and the server cannot start.
    """
    candidates = range(_FIRST_PORT, _first_client_port())
    with ExitStack() as stack:
        found: list[int] = []
        # A generator of its own: tests give the shared one a seed, and two processes would choose the same ports.
        for port in Random().sample(candidates, len(candidates)):
            if len(found) == count:
                break
            one = stack.enter_context(socket.socket())
            with suppress(OSError):
                one.bind((HOST, port))
                found.append(port)
        return found


def _first_client_port() -> int:
    """Return where the kernel's range of client ports begins, if that leaves enough below it; else the last port."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        first = _CLIENT_PORTS
    return first if first > _FIRST_PORT + _LEAST_CHOICE else _LAST_PORT
