"""SIGKILL and SIGSTOP of each process but the brokers."""

import random
from collections.abc import Callable
from typing import ClassVar

import psutil

from orion_beam.runners.local.processes import is_alive
from tests.chaos.harms.base import Harm
from tests.chaos.system import PATIENCE_S, TASK_MANAGERS, System
from tests.integration.harness import await_until

PAUSE_S = 40.0


class KillTaskManager(Harm):
    """A TaskManager is killed; its host starts another."""

    kind = "kill-task-manager"

    def __init__(self, draw: random.Random) -> None:
        self._number = draw.choice(TASK_MANAGERS)
        self.target = str(self._number)

    def cause(self, system: System) -> None:
        system.flink.kill_task_manager(self._number)

    def undo(self, system: System) -> None:
        system.flink.start_task_manager(self._number)


class KillLeadingJobManager(Harm):
    """The JobManager that leads is killed; its host starts it again, as the standby."""

    kind = "kill-leading-job-manager"
    _number = 0

    def cause(self, system: System) -> None:
        await_until(lambda: system.flink.leader is not None, PATIENCE_S, "a JobManager leads")
        self._number = system.flink.leader or 0
        self.target = str(self._number)
        system.flink.kill_job_manager(self._number)

    def undo(self, system: System) -> None:
        await_until(lambda: system.flink.leader is not None, PATIENCE_S, "the other JobManager leads")
        system.flink.start_job_manager(self._number)


class KillWorker(Harm):
    """The Python worker that does most is killed; Flink asks the pool for another."""

    kind = "kill-worker"

    def cause(self, system: System) -> None:
        system.busiest_worker().kill()


class KillPool(Harm):
    """A worker pool is killed with its workers; its host starts another."""

    kind = "kill-worker-pool"

    def __init__(self, draw: random.Random) -> None:
        self._number = draw.choice(TASK_MANAGERS)
        self.target = str(self._number)

    def cause(self, system: System) -> None:
        system.kill_pool(self._number)

    def undo(self, system: System) -> None:
        system.pools[self._number - 1].start()


class KillMonitor(Harm):
    """The monitor is killed; its host starts another, and the job goes on as if nothing were."""

    kind = "kill-monitor"

    def cause(self, system: System) -> None:
        system.monitor.kill()
        system.monitor.wait()

    def undo(self, system: System) -> None:
        system.start_monitor()
        await_until(system.monitor_answers, PATIENCE_S, "the monitor answers")


class _Pause(Harm):
    """A process is stopped by SIGSTOP, and goes on after 40 s, unless it was ended meanwhile."""

    lasts_s = PAUSE_S
    _process: psutil.Process | None = None
    find: ClassVar[Callable[[System], psutil.Process]]

    def cause(self, system: System) -> None:
        self._process = type(self).find(system)
        self._process.suspend()

    def undo(self, system: System) -> None:  # noqa: ARG002
        assert self._process is not None
        if is_alive(self._process):
            self._process.resume()


class StopTaskManager(_Pause):
    """A TaskManager stands still; Flink takes it for lost, and the job goes on without it."""

    kind = "stop-task-manager"

    def __init__(self, draw: random.Random) -> None:
        self._number = draw.choice(TASK_MANAGERS)
        self.target = str(self._number)

    def cause(self, system: System) -> None:
        self._process = psutil.Process(system.flink.task_manager_pid(self._number))
        self._process.suspend()


class StopLeadingJobManager(_Pause):
    """The JobManager that leads stands still, and loses the lead."""

    kind = "stop-leading-job-manager"

    def cause(self, system: System) -> None:
        await_until(lambda: system.flink.leader is not None, PATIENCE_S, "a JobManager leads")
        number = system.flink.leader or 0
        self.target = str(number)
        self._process = psutil.Process(system.flink.job_manager_pid(number))
        self._process.suspend()


class StopWorker(_Pause):
    """The Python worker that does most stands still."""

    kind = "stop-worker"
    find = System.busiest_worker


class StopPool(_Pause):
    """A worker pool stands still, and its workers do not."""

    kind = "stop-worker-pool"

    def __init__(self, draw: random.Random) -> None:
        self._number = draw.choice(TASK_MANAGERS)
        self.target = str(self._number)

    def cause(self, system: System) -> None:
        self._process = psutil.Process(system.pools[self._number - 1].process.pid)
        self._process.suspend()


class StopMonitor(_Pause):
    """The monitor stands still."""

    kind = "stop-monitor"

    def cause(self, system: System) -> None:
        self._process = system.monitor
        self._process.suspend()

    def undo(self, system: System) -> None:
        super().undo(system)
        await_until(system.monitor_answers, PATIENCE_S, "the monitor answers")


class StopZooKeeper(_Pause):
    """ZooKeeper stands still, by which JobManagers agree on the leader."""

    kind = "stop-zookeeper"

    def cause(self, system: System) -> None:
        self._process = psutil.Process(system.zookeeper.pid)
        self._process.suspend()


PROCESS_HARMS: tuple[type[Harm], ...] = (
    KillTaskManager,
    KillLeadingJobManager,
    KillWorker,
    KillPool,
    KillMonitor,
    StopTaskManager,
    StopLeadingJobManager,
    StopWorker,
    StopPool,
    StopMonitor,
    StopZooKeeper,
)
