"""Real Flink cluster on this machine, for development and tests: JobManagers and TaskManagers, each in its own JVM."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from orion_beam.errors import ServiceFailedError
from orion_beam.monitoring.flink_rest import FlinkRest
from orion_beam.runners.jars.build import ADD_EXPORTS, ADD_OPENS, Report, ensure_flink, ensure_s3_plugin, silent
from orion_beam.runners.local.broker import HOST, free_ports
from orion_beam.runners.local.jvm import kill_jvm, log_tail, start_jvm, stop_jvms

FLINK_START_TIMEOUT_S = 300.0

_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_PORT_ATTEMPTS = 5
_LOOK_EVERY_S = 0.1
_PLUGINS = "FLINK_PLUGINS_DIR"
"""Environment variable with the directory of Flink's plugins, each in a directory of its own."""

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
    "taskmanager.memory.jvm-metaspace.size": "512m",
    "taskmanager.memory.jvm-overhead.min": "128m",
    "taskmanager.memory.jvm-overhead.max": "128m",
}
_JOB_MANAGER_JVM = ("-Xmx512m",)
_TASK_MANAGER_JVM = ("-Xmx768m", "-XX:MaxDirectMemorySize=320m", "-XX:MaxMetaspaceSize=512m")
_ACCESS = [
    *(f"--add-exports={name}=ALL-UNNAMED" for name in ADD_EXPORTS),
    *(f"--add-opens={name}=ALL-UNNAMED" for name in ADD_OPENS),
]


def leads(log: bytes) -> bool:
    """Return whether a JobManager leads its cluster, by its log.

    Its resource manager's lines tell. Others say `lost leadership` of a job's leader when a TaskManager is lost.
    """
    return log.rfind(b"service is granted leadership") > log.rfind(b"service is revoked leadership")


class LocalFlink:
    """A Flink session cluster that takes jobs by REST. It ends with this process, even when this process is killed.

    Its class path holds nothing of Beam: as on any other cluster, a job brings Beam along in its jar. JobManagers and
    TaskManagers are numbered from 1.

    Args:
        directory: Directory for configuration, logs and temporary files; created when missing.
        slots: Number of slots of each TaskManager.
        task_managers: Number of TaskManagers.
        job_managers: Number of JobManagers. More than one need `high_availability` settings.
        settings: Settings for `flink-conf.yaml` in addition to, or instead of, those that are set here.
        environment: Environment variables of all JVMs in addition to those of this process.
        task_manager_jvm: Options of a TaskManager's JVM in addition to the usual ones, by its number.
        s3: Whether the cluster has the plugin for `s3://`.
    """

    def __init__(
        self,
        directory: Path,
        slots: int = 2,
        *,
        task_managers: int = 1,
        job_managers: int = 1,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        s3: bool = False,
        task_manager_jvm: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        """Store the settings; `start` starts the cluster."""
        self._directory = Path(directory).absolute()
        self._temporary = self._directory / "tmp"
        self._slots = slots
        self._task_managers = range(1, task_managers + 1)
        self._job_managers = range(1, job_managers + 1)
        self._settings = dict(settings or {})
        self._environment = dict(environment or {})
        self._s3 = s3
        self._task_manager_jvm = dict(task_manager_jvm or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._classpath = ""
        self._rest_ports: dict[int, int] = {}
        self._log_starts: dict[str, int] = {}

    @property
    def address(self) -> str:
        """URL of the REST API, for Beam's `--flink_master`; of several JobManagers, separated by commas."""
        return ",".join(map(self.address_of, self._job_managers))

    def address_of(self, job_manager: int) -> str:
        """Return the URL of a JobManager's REST API."""
        return f"http://{HOST}:{self._rest_ports[job_manager]}"

    def start(self, report: Report = silent) -> Self:
        """Start all JVMs and wait until the slots are registered.

        Raises:
            PrerequisiteError: Java is missing, or a jar cannot be fetched.
            ServiceFailedError: The cluster does not start. The message shows the end of its log.
        """
        self._classpath = ensure_flink(report)
        if self._s3:
            self._add_plugin(ensure_s3_plugin(report))
        for attempt in count(1):
            rpc_port, *rest_ports = free_ports(1 + len(self._job_managers))
            self._rest_ports = dict(zip(self._job_managers, rest_ports, strict=True))
            self._configure(rpc_port)
            for number in self._job_managers:
                self.start_job_manager(number)
            for number in self._task_managers:
                self.start_task_manager(number)
            try:
                self.await_slots()
            except _EndedError as error:
                self.stop()
                # Another process may have taken a port that was free a moment ago.
                if "Could not start rest endpoint on any port" not in str(error) or attempt == _PORT_ATTEMPTS:
                    raise
                continue
            except BaseException:
                self.stop()
                raise
            break
        return self

    def start_job_manager(self, number: int = 1) -> None:
        """Start a JobManager. It leads the cluster, or waits until the one that does fails."""
        own = {"rest.port": self._rest_ports[number]}
        self._launch(f"jobmanager-{number}", _JOB_MANAGER, _JOB_MANAGER_JVM, own)

    def start_task_manager(self, number: int = 1) -> None:
        """Start a TaskManager. A job that waits for slots continues when the TaskManager has registered."""
        jvm = (*_TASK_MANAGER_JVM, *self._task_manager_jvm.get(number, ()))
        self._launch(f"taskmanager-{number}", _TASK_MANAGER, jvm, _TASK_MANAGER_MEMORY)

    def kill_job_manager(self, number: int = 1) -> None:
        """End a JobManager as a crash would."""
        kill_jvm(self._processes.pop(f"jobmanager-{number}"))

    def kill_task_manager(self, number: int = 1) -> None:
        """End a TaskManager as a crash would."""
        kill_jvm(self._processes.pop(f"taskmanager-{number}"))

    def restart_ended(self) -> list[str]:
        """Start again those JobManagers and TaskManagers that have ended by themselves, and return their names."""
        ended = [name for name, process in self._processes.items() if process.poll() is not None]
        for name in ended:
            kind, _, number = name.partition("-")
            start = self.start_job_manager if kind == "jobmanager" else self.start_task_manager
            start(int(number))
        return ended

    def job_manager_pid(self, number: int = 1) -> int:
        """Return the process id of a JobManager that has been started."""
        return self._processes[f"jobmanager-{number}"].pid

    def task_manager_pid(self, number: int = 1) -> int:
        """Return the process id of a TaskManager that has been started."""
        return self._processes[f"taskmanager-{number}"].pid

    @property
    def leader(self) -> int | None:
        """Number of the JobManager that leads the cluster, by the JobManagers' logs; None while none does."""
        for number in self._job_managers:
            name = f"jobmanager-{number}"
            if name in self._processes and leads(self._log_file(name).read_bytes()[self._log_starts[name] :]):
                return number
        return None

    @property
    def rest(self) -> FlinkRest:
        """Client of the cluster's REST API."""
        return FlinkRest(self.address)

    def job_states(self) -> list[str]:
        """Return the state of each job that the cluster knows, in Flink's terms (such as `RUNNING`)."""
        return [job["status"] for job in self.rest.get("jobs")["jobs"]]

    def stop(self) -> None:
        """Stop all JVMs."""
        stop_jvms(self._processes.values())
        self._processes.clear()

    def __enter__(self) -> Self:
        """Start the cluster, unless it is running."""
        return self if self._processes else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the cluster."""
        self.stop()

    def _configure(self, rpc_port: int) -> None:
        self._temporary.mkdir(parents=True, exist_ok=True)
        settings = {
            "jobmanager.rpc.address": HOST,
            "jobmanager.rpc.port": rpc_port,
            "jobmanager.bind-host": HOST,
            "jobmanager.memory.process.size": "1g",
            "rest.address": HOST,
            "rest.bind-address": HOST,
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "taskmanager.numberOfTaskSlots": self._slots,
            "io.tmp.dirs": self._temporary,
            "web.upload.dir": self._temporary,
            # As for embedded Flink, see flink_parts/flink_conf.
            "execution.buffer-timeout.interval": "0 ms",
            # As in the manifests: a job restarts for ever, and after five good minutes at once again.
            "restart-strategy.type": "exponential-delay",
            "restart-strategy.exponential-delay.max-backoff": "30 s",
            "restart-strategy.exponential-delay.reset-backoff-threshold": "5 min",
            # Flink notices that a TaskManager was killed when two heartbeats in a row find no process at its port. One
            # that only stands still, as on a busy machine, keeps its tasks for as long as the default timeout, 50 s.
            "heartbeat.interval": 1000,
            **self._settings,
        }
        lines = "".join(f"{name}: {value}\n" for name, value in settings.items())
        (self._directory / "flink-conf.yaml").write_text(lines)

    def _add_plugin(self, directory: Path) -> None:
        plugins = self._directory / "plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        (plugins / "s3-fs-hadoop").symlink_to(directory)
        self._environment[_PLUGINS] = str(plugins)

    def _launch(self, name: str, main_class: str, jvm: Sequence[str], own: Mapping[str, object]) -> None:
        log = self._log_file(name)
        self._log_starts[name] = log.stat().st_size if log.exists() else 0
        dynamic = [part for key, value in own.items() for part in ("-D", f"{key}={value}")]
        arguments = ["--configDir", str(self._directory), *dynamic]
        options = [*jvm, *_ACCESS, f"-Djava.io.tmpdir={self._temporary}"]
        self._processes[name] = start_jvm(main_class, self._classpath, log, options, arguments, self._environment)

    def await_slots(self) -> None:
        """Wait until all TaskManagers that have been started are registered.

        Raises:
            ServiceFailedError: A JVM ends by itself, or it takes too long. The message shows the end of its log.
        """
        wanted = self._slots * sum(name.startswith("taskmanager") for name in self._processes)
        give_up = time.monotonic() + FLINK_START_TIMEOUT_S
        while time.monotonic() < give_up:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise _EndedError(self._failure(f"it ended with exit code {process.returncode}", name))
            try:
                if self.rest.get("overview")["slots-total"] >= wanted:
                    return
            except OSError:
                pass  # not yet
            time.sleep(_LOOK_EVERY_S)
        raise ServiceFailedError(
            self._failure(f"it does not answer within {FLINK_START_TIMEOUT_S:.0f} s", "jobmanager-1")
        )

    def _failure(self, reason: str, name: str) -> str:
        log = self._log_file(name)
        return f"the local Flink does not start: {reason}. Its log, {log}, ends:\n{log_tail(log)}"

    def _log_file(self, name: str) -> Path:
        return self._directory / f"{name}.log"


class _EndedError(ServiceFailedError):
    """One of the processes has ended by itself."""
