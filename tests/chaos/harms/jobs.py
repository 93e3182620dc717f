"""Harms to the job as a whole, and what an operator does to it."""

import os
import random
import signal
import subprocess
import tempfile
import time

import psutil
from confluent_kafka import TopicPartition
from confluent_kafka.cimpl import NewPartitions

from orion_beam.kafka.admin import admin_client
from orion_beam.kafka.offset_ranges import SourcePartition, offset_ranges
from tests.chaos.feed import COUNTRIES
from tests.chaos.harms.base import Harm
from tests.chaos.system import PATIENCE_S, TASK_MANAGERS, System
from tests.integration.harness import await_until
from tests.topics import raw_topic

MOST_PARTITIONS = 24


class CancelJob(Harm):
    """The job is cancelled without a savepoint, and submitted again: it goes on at the committed offsets."""

    kind = "cancel-job"

    def cause(self, system: System) -> None:
        system.change_job("cancel", "--yes")

    def undo(self, system: System) -> None:
        system.ensure_job()


class StopJobWithSavepoint(Harm):
    """The job is stopped with a savepoint, and started from it."""

    kind = "stop-with-savepoint"
    _savepoint = ""

    def cause(self, system: System) -> None:
        self._savepoint = system.change_job("stop").strip()

    def undo(self, system: System) -> None:
        if system.running():
            return
        system.submit(*(("--from-savepoint", self._savepoint) if self._savepoint else ()))


class UpgradeAndRollback(Harm):
    """The job is replaced by another version of it, and that by the one before."""

    kind = "upgrade-and-rollback"

    def cause(self, system: System) -> None:
        system.submit("--replace", "--tag-partials")
        system.change_job("rollback")

    def undo(self, system: System) -> None:
        system.ensure_job()


class KillSubmitter(Harm):
    """`submit --replace` is killed somewhere on its way. The operator looks, and submits if no job runs."""

    kind = "kill-submitter"

    def __init__(self, draw: random.Random) -> None:
        self._after_s = round(draw.uniform(2, 30), 1)
        self.target = f"after {self._after_s:g} s"

    def cause(self, system: System) -> None:
        # What is killed leaves its temporary files. The operator deletes them.
        with (
            (system.directory / "commands.log").open("ab") as log,
            tempfile.TemporaryDirectory(dir=system.directory, ignore_cleanup_errors=True) as own,
        ):
            environment = os.environ | {"TMPDIR": own}
            submitter = subprocess.Popen(system.submit_command("--replace"), stdout=log, stderr=log, env=environment)
            try:
                submitter.wait(self._after_s)
                self.target += ", it had ended"
            except subprocess.TimeoutExpired:
                submitter.send_signal(signal.SIGKILL)
                submitter.wait()

    def undo(self, system: System) -> None:
        # A stop that was asked for goes on without the one who asked.
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            if not system.running():
                system.submit()
            if system.is_whole():
                return
            time.sleep(1)
        raise AssertionError("no job runs")


class AddPartitions(Harm):
    """Partitions are added to a raw topic under the running job."""

    kind = "add-partitions"

    def __init__(self, draw: random.Random) -> None:
        self._topic = raw_topic(draw.choice(COUNTRIES)).name
        self.target = self._topic

    def cause(self, system: System) -> None:
        admin = admin_client(system.servers)
        now = len(admin.list_topics(self._topic, timeout=60).topics[self._topic].partitions)
        if now < MOST_PARTITIONS:
            (done,) = admin.create_partitions([NewPartitions(self._topic, now + 1)]).values()
            done.result(PATIENCE_S)
            new = SourcePartition(self._topic, now)
            await_until(lambda: new in system.feed.sent(), PATIENCE_S, "the new partition gets records")


class RetentionOvertakes(Harm):
    """Both TaskManagers stand still, and retention deletes the records of a partition that they have not read.

    These records are lost, as they are when a job stands still for longer than the topic's retention. All others must
    come out, and the job must go on.
    """

    kind = "retention-overtakes"
    lasts_s = 10.0

    def __init__(self, draw: random.Random) -> None:
        self._topic = raw_topic(draw.choice(COUNTRIES)).name
        self._task_managers: list[psutil.Process] = []
        self.target = self._topic

    def cause(self, system: System) -> None:
        self._task_managers = [psutil.Process(system.flink.task_manager_pid(number)) for number in TASK_MANAGERS]
        for process in self._task_managers:
            process.suspend()

    def undo(self, system: System) -> None:
        try:
            held = offset_ranges(system.servers, [self._topic])
            part, (_, high) = max(held.items(), key=lambda entry: entry[1].offsets)
            # A client that nobody holds ends before it has answered.
            admin = admin_client(system.servers)
            (done,) = admin.delete_records([TopicPartition(*part, high)]).values()
            system.deleted[part] = high
            done.result(PATIENCE_S)
        finally:
            for process in self._task_managers:
                process.resume()


JOB_HARMS: tuple[type[Harm], ...] = (
    CancelJob,
    StopJobWithSavepoint,
    UpgradeAndRollback,
    KillSubmitter,
    AddPartitions,
    RetentionOvertakes,
)
