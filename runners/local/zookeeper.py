"""Real ZooKeeper on this machine, for development and tests: one server, bound to the loopback interface."""

import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from orion_beam.errors import ServiceFailedError
from orion_beam.runners.jars.build import Report, ensure_zookeeper, silent
from orion_beam.runners.local.broker import HOST, free_ports
from orion_beam.runners.local.jvm import log_tail, start_jvm, stop_jvms

ZOOKEEPER_START_TIMEOUT_S = 120.0

_MAIN = "org.apache.zookeeper.server.ZooKeeperServerMain"
_JVM = ("-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_LOOK_EVERY_S = 0.1
_ANSWER_TIMEOUT_S = 2.0


class LocalZooKeeper:
    """A ZooKeeper server. It ends with this process, even when this process is killed.

    Args:
        directory: Directory for data, configuration and log; created when missing.
    """

    def __init__(self, directory: Path) -> None:
        """Store the settings; `start` starts the server."""
        self._directory = Path(directory).absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """HOST:PORT of the server, for `high-availability.zookeeper.quorum`."""
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the server, which has been started."""
        assert self._process is not None
        return self._process.pid

    def start(self, report: Report = silent) -> Self:
        """Start the server and wait until it answers.

        Raises:
            PrerequisiteError: Java is missing, or a jar cannot be fetched.
            ServiceFailedError: The server does not start. The message shows the end of its log.
        """
        classpath = ensure_zookeeper(report)
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._port,) = free_ports(1)
        settings = {
            "dataDir": self._directory / "data",
            "clientPort": self._port,
            "clientPortAddress": HOST,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "ruok",
            # The shortest session is two ticks; with the default tick of 2 s it would be 4 s.
            "tickTime": 1000,
            "maxSessionTimeout": 60_000,
        }
        configuration = self._directory / "zoo.cfg"
        configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        log = self._directory / "zookeeper.log"
        self._process = start_jvm(_MAIN, classpath, log, _JVM, [str(configuration)])
        give_up = time.monotonic() + ZOOKEEPER_START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise ServiceFailedError(f"the local ZooKeeper does not start. Its log, {log}, ends:\n{log_tail(log)}")
            time.sleep(_LOOK_EVERY_S)
        return self

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None:
            stop_jvms([self._process])
            self._process = None

    def __enter__(self) -> Self:
        """Start the server, unless it is running."""
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self._port), _ANSWER_TIMEOUT_S) as connection:
                connection.sendall(b"ruok")
                return connection.recv(4) == b"imok"
        except OSError:
            return False
