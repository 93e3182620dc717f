"""Real Flink cluster on this machine, for development and tests: a JobManager and a TaskManager, each in a JVM."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from orion_beam.errors import ServiceFailedError
from orion_beam.monitoring.flink_rest import FlinkRest
from orion_beam.runners.jars.build import (
    ADD_EXPORTS,
    ADD_OPENS,
    GUARD,
    Report,
    ensure_flink,
    find_java,
    guard_environment,
    silent,
)
from orion_beam.runners.local.broker import BROKER_STOP_TIMEOUT_S, HOST, free_ports

FLINK_START_TIMEOUT_S = 300.0

_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_PORT_ATTEMPTS = 5
_LOG_TAIL_LINES = 12
_LOOK_EVERY_S = 0.1

# Flink's start scripts compute these; without the scripts, each must be given.
_TASK_MANAGER_MEMORY = {
    "taskmanager.cpu.cores": "2",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.task.heap.size": "640m",
    "taskmanager.memory.task.off-heap.size": "128m",
    "taskmanager.memory.managed.size": "64m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "128m",
    "taskmanager.memory.jvm-overhead.max": "128m",
}
_JOB_MANAGER_JVM = ("-Xmx512m",)
_TASK_MANAGER_JVM = ("-Xmx768m", "-XX:MaxDirectMemorySize=320m", "-XX:MaxMetaspaceSize=256m")


class LocalFlink:
    """A Flink session cluster that takes jobs by REST. It ends with this process, even when this process is killed.

    Its class path holds nothing of Beam: as on any other cluster, a job brings Beam along in its jar.

    Args:
        directory: Directory for configuration, logs and temporary files; created when missing.
        slots: Number of slots of the TaskManager.
    """

    def __init__(self, directory: Path, slots: int = 2) -> None:
        """Store the settings; `start` starts the cluster."""
        self._directory = Path(directory).absolute()
        self._slots = slots
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._classpath = ""
        self._rest_port = 0

    @property
    def address(self) -> str:
        """URL of the REST API, for Beam's `--flink_master`."""
        return f"http://{HOST}:{self._rest_port}"

    def start(self, report: Report = silent) -> Self:
        """Start both JVMs and wait until the slots are registered.

        Raises:
            PrerequisiteError: Java is missing, or a jar cannot be fetched.
            ServiceFailedError: The cluster does not start. The message shows the end of its log.
        """
        self._classpath = ensure_flink(report)
        for attempt in range(_PORT_ATTEMPTS):
            self._configure(*free_ports(2))
            self._launch(_JOB_MANAGER, _JOB_MANAGER_JVM)
            self.start_task_manager()
            try:
                self._await_slots()
            except _EndedError as error:
                self.stop()
                # Another process may have taken a port that was free a moment ago.
                if "Could not start rest endpoint on any port" not in str(error) or attempt == _PORT_ATTEMPTS - 1:
                    raise
                continue
            except BaseException:
                self.stop()
                raise
            break
        return self

    def start_task_manager(self) -> None:
        """Start the TaskManager. A job that waits for slots continues when the TaskManager has registered."""
        memory = [part for name, value in _TASK_MANAGER_MEMORY.items() for part in ("-D", f"{name}={value}")]
        self._launch(_TASK_MANAGER, _TASK_MANAGER_JVM, *memory)

    def kill_task_manager(self) -> None:
        """End the TaskManager as a crash would."""
        process = self._processes.pop(_TASK_MANAGER)
        process.kill()
        process.wait()

    @property
    def rest(self) -> FlinkRest:
        """Client of the cluster's REST API."""
        return FlinkRest(self.address)

    def job_states(self) -> list[str]:
        """Return the state of each job that the cluster knows, in Flink's terms (such as `RUNNING`)."""
        return [job["status"] for job in self.rest.get("jobs")["jobs"]]

    def stop(self) -> None:
        """Stop both JVMs."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(BROKER_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def __enter__(self) -> Self:
        """Start the cluster, unless it is running."""
        return self if self._processes else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the cluster."""
        self.stop()

    def _configure(self, rest_port: int, rpc_port: int) -> None:
        self._rest_port = rest_port
        temporary = self._directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        settings = {
            "jobmanager.rpc.address": HOST,
            "jobmanager.rpc.port": rpc_port,
            "jobmanager.bind-host": HOST,
            "jobmanager.memory.process.size": "1g",
            "rest.address": HOST,
            "rest.bind-address": HOST,
            "rest.port": rest_port,
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "taskmanager.numberOfTaskSlots": self._slots,
            "io.tmp.dirs": temporary,
            "web.upload.dir": temporary,
            # As for embedded Flink, see flink_parts/flink_conf.
            "execution.buffer-timeout.interval": "0 ms",
            # Time until Flink notices that a TaskManager was killed; the default is 50 s.
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 5000,
        }
        lines = "".join(f"{name}: {value}\n" for name, value in settings.items())
        (self._directory / "flink-conf.yaml").write_text(lines)

    def _launch(self, main_class: str, jvm: Sequence[str], *arguments: str) -> None:
        access = [f"--add-exports={name}=ALL-UNNAMED" for name in ADD_EXPORTS]
        access += [f"--add-opens={name}=ALL-UNNAMED" for name in ADD_OPENS]
        main = [f"-Dorion.main.class={main_class}", GUARD, "--configDir", str(self._directory)]
        with self._log_file(main_class).open("ab") as log:
            self._processes[main_class] = subprocess.Popen(
                [find_java(), *jvm, *access, "-cp", self._classpath, *main, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | guard_environment(),
            )

    def _await_slots(self) -> None:
        give_up = time.monotonic() + FLINK_START_TIMEOUT_S
        while time.monotonic() < give_up:
            for main_class, process in self._processes.items():
                if process.poll() is not None:
                    raise _EndedError(self._failure(f"it ended with exit code {process.returncode}", main_class))
            try:
                if self.rest.get("overview")["slots-total"] >= self._slots:
                    return
            except OSError:
                pass  # not yet
            time.sleep(_LOOK_EVERY_S)
        raise ServiceFailedError(
            self._failure(f"it does not answer within {FLINK_START_TIMEOUT_S:.0f} s", _JOB_MANAGER)
        )

    def _failure(self, reason: str, main_class: str) -> str:
        log = self._log_file(main_class)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
        return f"the local Flink does not start: {reason}. Its log, {log}, ends:\n{tail}"

    def _log_file(self, main_class: str) -> Path:
        return self._directory / f"{main_class.rpartition('.')[2]}.log"


class _EndedError(ServiceFailedError):
    """One of the processes has ended by itself."""
