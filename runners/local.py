"""A real Kafka on this machine, for development and tests: one JVM, one node, bound to the loopback interface.

`LocalKafka` is a broker that lives as long as a `with` block. `up`, `down` and `status` handle the one broker that
outlives the command that started it.
"""

import base64
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.kafka.topics import admin_client
from runners.jars import Report, ensure_jars, find_java, guard_environment, orion_home, silent

HOST = "127.0.0.1"
DEFAULT_PORT = 9092
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0

_PORT_ATTEMPTS = 5
_LOG_TAIL_LINES = 12
_GUARD = "dev.orion.beam.ParentGuard"

_SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={log_directory}
auto.create.topics.enable=false

# one node
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0

# a broker that was killed may come back after 3 s; by default its former self is waited for, 9 s
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500

# threads are scaled down from production's 8 and 16, and from the 50 partitions of Kafka's own topics
num.network.threads=2
num.io.threads=4
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4

# as in production
unclean.leader.election.enable=false
socket.send.buffer.bytes=1048576
socket.receive.buffer.bytes=1048576
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
"""

_LOGGING_PROPERTIES = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1}: %m%n%throwable
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class _PortTakenError(Exception):
    """Somebody else listens on a port that the broker was to use."""


class LocalKafka:
    """A Kafka broker of one node. Its data stay in `data_dir` from run to run.

    As a context manager it ends with this process, even when that is killed.

    Args:
        data_dir: Directory for data, settings and log; made when missing.
        port: Port to listen on; None picks a free one at each start.
        heap: Most memory for the JVM's heap.
        detached: The broker goes on when this process ends, and belongs to no terminal.
    """

    def __init__(self, data_dir: Path, port: int | None = None, heap: str = "768m", *, detached: bool = False) -> None:
        """Note where and how to run; `start` runs it."""
        self.data_dir = Path(data_dir).absolute()
        self.log_file = self.data_dir / "broker.log"
        self._wanted_port = port
        self._heap = heap
        self._detached = detached
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The broker's address, for clients' `bootstrap.servers`."""
        if self._port is None:
            raise RuntimeError("the broker has not been started")
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The broker's process id."""
        if self._process is None:
            raise RuntimeError("the broker is not running")
        return self._process.pid

    def start(self, report: Report = silent) -> Self:
        """Start the broker and wait until it answers.

        Raises:
            PrerequisiteError: Java is missing, or the port is taken.
            RuntimeError: the broker does not start; shows the end of its log.
        """
        if self._process is not None:
            raise RuntimeError("the broker is running already")
        classpath = ensure_jars(report).kafka_classpath
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for _ in range(_PORT_ATTEMPTS):
            with _free_ports(2) as (first, second):
                port, controller_port = self._wanted_port or first, second
            if self._wanted_port is not None and _is_taken(port):
                break
            try:
                self._launch(classpath, port, controller_port)
                self._await_ready()
            except _PortTakenError:
                self.kill()
                continue
            except BaseException:
                self.kill()
                raise
            return self
        if self._wanted_port is not None:
            raise PrerequisiteError(
                f"port {self._wanted_port} is in use: stop what listens there, or choose another with --port"
            )
        raise self._failure("found no free port")

    def stop(self) -> None:
        """Shut the broker down, so that its data are whole on disk; kill it when that takes too long."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End the broker as a crash would. Its data survive."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def disown(self) -> None:
        """Let a detached broker go on alone. Should it end before this process does, it leaves no zombie."""
        if self._process is not None:
            threading.Thread(target=self._process.wait, name="orion-local-kafka-reaper", daemon=True).start()
            self._process = None

    def __enter__(self) -> Self:
        """Start the broker, unless it has been started."""
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the broker."""
        self.stop()

    def _launch(self, classpath: str, port: int, controller_port: int) -> None:
        properties = self.data_dir / "server.properties"
        logging = self.data_dir / "log4j2.properties"
        log_directory = self.data_dir / "data"
        properties.write_text(
            _SERVER_PROPERTIES.format(
                host=HOST, port=port, controller_port=controller_port, log_directory=log_directory.as_posix()
            )
        )
        logging.write_text(_LOGGING_PROPERTIES)
        java = [find_java(), f"-Xmx{self._heap}", f"-Dlog4j2.configurationFile={logging}"]
        if not (log_directory / "meta.properties").exists():
            format_storage = ["format", "--cluster-id", self._cluster_id(), "--config", str(properties)]
            with self.log_file.open("wb") as log:
                formatted = subprocess.run(
                    [*java, "-cp", classpath, "kafka.tools.StorageTool", *format_storage, "--ignore-formatted"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            if formatted.returncode:
                raise self._failure("its storage cannot be formatted")
        # Detached, the guard must not be there: it would end the broker with the command that started it.
        main = ["kafka.Kafka"] if self._detached else ["-Dorion.main.class=kafka.Kafka", _GUARD]
        environment = os.environ | ({} if self._detached else guard_environment())
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*java, "-cp", classpath, *main, str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=self._detached,
            )
        self._port = port

    def _cluster_id(self) -> str:
        """Return the id of this data directory's cluster; made before formatting, which may be interrupted."""
        path = self.data_dir / "cluster.id"
        if not path.exists():
            cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            # A leading dash would look like an option.
            path.write_text(cluster_id.replace("-", "A"))
        return path.read_text()

    def _await_ready(self) -> None:
        """Wait until the broker, and not another one on its port, answers."""
        assert self._process is not None
        admin = admin_client(self.bootstrap_servers)
        give_up = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < give_up:
            if self._process.poll() is not None:
                if "Address already in use" in self._log():
                    raise _PortTakenError
                raise self._failure(f"it ended with exit code {self._process.returncode}")
            try:
                if admin.list_topics(timeout=1).cluster_id == self._cluster_id():
                    return
            except KafkaException:
                continue  # it has waited for its second
        raise self._failure(f"it does not answer within {START_TIMEOUT_S:.0f} s")

    def _failure(self, reason: str) -> RuntimeError:
        tail = "\n".join(self._log().splitlines()[-_LOG_TAIL_LINES:])
        return RuntimeError(f"the local Kafka does not start: {reason}. Its log, {self.log_file}, ends:\n{tail}")

    def _log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""


@dataclass(frozen=True)
class LocalState:
    """The broker that `up` started, as its state file says.

    Attributes:
        pid: Its process.
        started: When that process started, as the system says; tells it from a later one with the same id.
        bootstrap_servers: Its address.
        data_dir: Where its data and log are.
    """

    pid: int
    started: str
    bootstrap_servers: str
    data_dir: str

    @property
    def running(self) -> bool:
        """Whether that very process is there."""
        return _start_time(self.pid) == self.started


def up(port: int | None = DEFAULT_PORT, heap: str = "768m", report: Report = silent) -> tuple[LocalState, bool]:
    """Start the development broker, unless it is running.

    Args:
        port: Port to listen on; None picks a free one.
        heap: Most memory for the JVM's heap.
        report: Gets a line now and then while this goes on.

    Returns:
        The broker, and whether it was started now.

    Raises:
        PrerequisiteError: Java is missing, or the port is taken.
        RuntimeError: the broker does not start; shows the end of its log.
    """
    with _locked():
        running = status()
        if running is not None:
            return running, False
        directory = _directory() / "kafka"
        broker = LocalKafka(directory, port, heap, detached=True).start(report)
        started = _start_time(broker.pid)
        if started is None:
            raise RuntimeError(f"the local Kafka ended right after its start (log: {broker.log_file})")
        state = LocalState(broker.pid, started, broker.bootstrap_servers, str(directory))
        try:
            _write_state(state)
        except BaseException:
            broker.stop()  # nobody would find it again
            raise
        broker.disown()
        return state, True


def down(purge: bool = False) -> bool:
    """Stop the development broker.

    Args:
        purge: Delete its data, too.

    Returns:
        Whether one was running.
    """
    with _locked():
        running = status()
        if running is not None:
            _terminate(running)
        _state_file().unlink(missing_ok=True)
        if purge:
            shutil.rmtree(_directory() / "kafka", ignore_errors=True)
        return running is not None


def status() -> LocalState | None:
    """Return the development broker, or None when none is running, whatever an old state file says."""
    try:
        state = LocalState(**json.loads(_state_file().read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise UserError(f"{_state_file()} is not a state file: delete it") from None
    return state if state.running else None


def _directory() -> Path:
    return orion_home() / "local"


def _state_file() -> Path:
    return _directory() / "state.json"


def _write_state(state: LocalState) -> None:
    temporary = _state_file().with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(state), indent=2) + "\n")
    temporary.replace(_state_file())


@contextmanager
def _locked() -> Iterator[None]:
    """Let one command at a time start or stop the development broker."""
    _directory().mkdir(parents=True, exist_ok=True)
    with (_directory() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _terminate(state: LocalState) -> None:
    for number, patience_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, STOP_TIMEOUT_S)):
        try:
            os.kill(state.pid, number)
        except ProcessLookupError:
            return
        give_up = time.monotonic() + patience_s
        while state.running and time.monotonic() < give_up:
            time.sleep(0.05)
        if not state.running:
            return
    raise RuntimeError(f"process {state.pid}, the local Kafka, does not end")


def _start_time(pid: int) -> str | None:
    """Return when a process started, in the system's own words, or None when it is gone, or dead and not reaped."""
    stat = Path("/proc", str(pid), "stat")
    if Path("/proc/self/stat").exists():
        try:
            # The name, in parentheses, may hold anything; state and start time are fields 3 and 22.
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    listed = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    flags, _, started = listed.stdout.strip().partition(" ")
    return started.strip() if started and "Z" not in flags else None


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Give out ports that were free a moment ago. Somebody else may take one at any time."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        yield [one.getsockname()[1] for one in sockets]


def _is_taken(port: int) -> bool:
    """Return whether something listens on a port. A connection that lingers there does not count, as for Kafka."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
