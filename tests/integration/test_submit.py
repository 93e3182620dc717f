"""Jobs that `orion-beam submit` starts on a cluster: they live on, come once, and restore savepoints."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from orion_beam.proof.audit import conservation
from orion_beam.runners.cluster.job_jar import JobManifest
from orion_beam.runners.jars.build import ADD_EXPORTS, ADD_OPENS, ensure_flink, find_java, guard_environment
from orion_beam.runners.local.broker import free_ports
from orion_beam.runners.local.flink import LocalFlink
from tests.integration.harness import (
    FREQUENT_CHECKPOINTS,
    QUICK_TO_MISS,
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Feed,
    await_until,
    kafka_in,
    lease_holders,
    records_on,
)
from tests.integration.remote_peers import answers_of, assert_refused, open_ports, own_address
from tests.integration.test_cluster import workers
from tests.topics import DEAD_LETTERS, FINAL, raw_topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1_800)]

GROUP = "orion-beam"
SLOTS = 2
COMMAND_TIMEOUT_S = 2 * START_TIMEOUT_S
"""Longest time for a command that builds a jar, stops a job and starts another."""


@dataclass(frozen=True)
class Scene:
    """A broker, a cluster and its workers.

    Attributes:
        servers: The brokers.
        flink: The cluster.
        pool: Address of the worker pool.
        directory: Directory for files.
    """

    servers: str
    flink: LocalFlink
    pool: str
    directory: Path

    def command(self, *options: str, beam: Sequence[str] = ()) -> list[str]:
        """Return a call of `orion-beam submit` for this cluster."""
        command = [sys.executable, "-m", "orion_beam.cli.main", "submit", "--bootstrap-servers", self.servers]
        place = [f"--flink_master={self.flink.address}", "--environment_type=EXTERNAL"]
        place += [f"--environment_config={self.pool}", "--parallelism=1", FREQUENT_CHECKPOINTS]
        return [*command, *QUICK_TO_MISS, *options, "--", *place, *beam]

    def submit(self, *options: str, beam: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
        """Call `orion-beam submit` and wait until it has ended."""
        command = self.command(*options, beam=beam)
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
        print(done.stderr)
        return done

    def submitted(self, *options: str) -> list[dict[str, Any]]:
        """Return the jobs that a call with --json has submitted."""
        done = self.submit("--json", *options)
        assert done.returncode == 0
        jobs: list[dict[str, Any]] = json.loads(done.stdout)["jobs"]
        return jobs

    def refused(self, *options: str, beam: Sequence[str] = ()) -> str:
        """Return the last line of a call that must refuse, and has changed nothing."""
        before = self.running
        done = self.submit(*options, beam=beam)
        assert (done.returncode, done.stdout) == (2, "")
        assert self.running == before
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    @property
    def running(self) -> set[str]:
        """Ids of the jobs that have not ended."""
        jobs = self.flink.rest.get("jobs/overview")["jobs"]
        return {job["jid"] for job in jobs if job["state"] in ("RUNNING", "CREATED", "RESTARTING", "INITIALIZING")}

    def stop(self, job_id: str, target: str | None = None) -> str:
        """Stop a job with a savepoint, and return the savepoint's path."""
        rest, directory = self.flink.rest, target or self.directory / "savepoints"
        request = rest.post(f"jobs/{job_id}/stop", {"targetDirectory": str(directory), "drain": False})["request-id"]
        path = f"jobs/{job_id}/savepoints/{request}"
        await_until(lambda: rest.get(path)["status"]["id"] == "COMPLETED", STOP_TIMEOUT_S, "the savepoint is there")
        await_until(lambda: job_id not in self.running, STOP_TIMEOUT_S, "the job has ended")
        return str(rest.get(path)["operation"]["location"])

    def restored(self, job_id: str) -> str | None:
        """Return the path of what a job has restored."""
        found = self.flink.rest.get(f"jobs/{job_id}/checkpoints")["latest"]["restored"]
        return None if found is None else str(found["external_path"])

    def written(self) -> int:
        """Return the number of CDRs and dead letters."""
        return records_on(self.servers, FINAL.name, DEAD_LETTERS.name)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("submit")
    (metrics_port,) = free_ports(1)
    with (
        kafka_in(directory / "kafka") as broker,
        LocalFlink(directory / "flink", SLOTS) as flink,
        workers(directory / "workers.log", metrics_port) as pool,
    ):
        yield Scene(broker.bootstrap_servers, flink, pool, directory)


@pytest.fixture(autouse=True)
def _leaves_no_job(scene: Scene) -> Iterator[None]:
    yield
    for job_id in scene.running:
        scene.flink.rest.cancel(job_id)
    await_until(lambda: not lease_holders(scene.servers, GROUP), STOP_TIMEOUT_S, "the leases are free")


def test_a_job_lives_on_comes_once_and_goes_on_from_its_savepoint(scene: Scene) -> None:
    feed = Feed(scene.servers)
    feed.send_generated("FR", 300, seed=1)
    feed.flush()
    began = time.monotonic()
    (job,) = scene.submitted("--countries", "FR")
    print(f"{time.monotonic() - began:.1f} s from the command to its end")
    assert job["name"] == f"orion-{GROUP}-FR"
    assert scene.running == {job["id"]}
    await_until(lambda: scene.written() == 300, START_TIMEOUT_S, "the records are out")

    line = scene.refused("--countries", "FR")
    assert f"job {job['id']} (orion-{GROUP}-FR, version " in line
    assert "with the same configuration: --replace " in line
    assert "with another configuration" in scene.refused("--countries", "FR", "--tag-partials")

    savepoint = scene.stop(job["id"])
    nowhere = f"{scene.directory}/nowhere"
    line = scene.refused("--countries", "FR", "--from-savepoint", nowhere)
    assert f"does not take the job with savepoint {nowhere}: java.io.FileNotFoundException" in line
    # The id of each step's state is made of its name, and this job reads another topic.
    line = scene.refused("--countries", "SN", "--from-savepoint", savepoint)
    assert "Cannot map checkpoint/savepoint state for operator" in line

    done = scene.submit("--countries", "FR", "--json", beam=[f"--savepoint_path={savepoint}"])
    (again,) = json.loads(done.stdout)["jobs"]
    assert scene.restored(again["id"]) == savepoint
    feed.send_generated("FR", 100, seed=2)
    feed.flush()
    await_until(lambda: scene.written() >= 400, START_TIMEOUT_S, "the records are out")
    report = conservation(scene.servers, [raw_topic("FR").name])
    assert (report.records, scene.written()) == (400, 400)
    assert report.holds, report.problems


def test_services_for_workers_of_a_task_manager_answer_processes_of_this_host_only(scene: Scene) -> None:
    address = own_address()
    scene.submitted("--countries", "FR")
    task_manager = psutil.Process(scene.flink.task_manager_pid())
    answers: dict[int, dict[str, grpc.StatusCode]] = {}

    def workers_are_served() -> bool:
        answers.update({port: answers_of(address, port) for port in open_ports(task_manager) - answers.keys()})
        return any("fn_execution.v1.BeamFnData/Data" in of_port for of_port in answers.values())

    await_until(workers_are_served, START_TIMEOUT_S, "the services for workers listen")
    for port, of_port in answers.items():
        assert_refused(of_port, port)


def test_each_country_is_a_job_of_its_own_when_split(scene: Scene) -> None:
    jobs = scene.submitted("--countries", "MA,TN", "--split-by-country")
    assert [job["name"] for job in jobs] == [f"orion-{GROUP}-MA", f"orion-{GROUP}-TN"]
    assert scene.running == {job["id"] for job in jobs}
    # All slots are taken, and no job of these countries runs.
    line = scene.refused("--countries", "SN")
    assert line.startswith("orion-beam: error: 0 of 2 slots free on 1 task managers, 1 needed: cancel other jobs")


def test_who_is_attached_may_leave(scene: Scene) -> None:
    log = scene.directory / "attached.log"

    def attached(*options: str) -> "subprocess.Popen[bytes]":
        with log.open("wb") as out:
            process = subprocess.Popen(
                scene.command("--countries", "SN", "--attached", *options),
                stdout=out,
                stderr=out,
                env=os.environ | guard_environment(),
            )
        await_until(lambda: "attached to job" in log.read_text(), START_TIMEOUT_S, "it is attached")
        return process

    first = attached()
    (job_id,) = scene.running
    first.send_signal(signal.SIGTERM)
    assert first.wait(STOP_TIMEOUT_S) == 143
    assert f"terminated: job {job_id} lives on" in log.read_text()
    assert scene.running == {job_id}

    # A second job of the group may read what this one reads, if the user says so.
    second = attached("--allow-second-job")
    (other_id,) = scene.running - {job_id}
    second.send_signal(signal.SIGINT)
    assert second.wait(STOP_TIMEOUT_S) == 130
    assert f"detached: job {other_id} lives on" in log.read_text()
    assert scene.running == {job_id, other_id}

    scene.flink.rest.cancel(job_id)
    scene.flink.rest.cancel(other_id)
    third = attached("--allow-second-job")
    third.send_signal(signal.SIGINT)
    await_until(lambda: "detached: job" in log.read_text(), STOP_TIMEOUT_S, "it has been detached")
    third.send_signal(signal.SIGINT)
    assert third.wait(STOP_TIMEOUT_S) == 130
    assert "is cancelled" in log.read_text()
    assert scene.running == set()


def test_flinks_own_command_starts_a_jar_without_python_and_one_job_of_two_starts_reads(scene: Scene) -> None:
    feed, before = Feed(scene.servers), scene.written()
    feed.send_generated("SN", 50, seed=3)
    feed.flush()
    jar = scene.directory / "sn.jar"
    done = scene.submit("--countries", "SN", "--to-jar", str(jar), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["name"] == JobManifest.of(jar).name == f"orion-{GROUP}-SN"
    assert jar.stat().st_mode & 0o077 == 0, "the jar may hold secrets of a login"
    assert scene.running == set()
    host = scene.flink.address.removeprefix("http://")
    access = [f"--add-exports={name}=ALL-UNNAMED" for name in ADD_EXPORTS]
    access += [f"--add-opens={name}=ALL-UNNAMED" for name in ADD_OPENS]
    command = ["-cp", ensure_flink(), "org.apache.flink.client.cli.CliFrontend", "run", "--detached", "-m", host]
    environment = os.environ | {"FLINK_CONF_DIR": str(scene.directory / "flink"), "PATH": "/nowhere"}

    def start() -> None:
        done = subprocess.run(
            [find_java(), *access, *command, str(jar)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    start()
    await_until(lambda: scene.written() == before + 50, START_TIMEOUT_S, "the records are out")
    (job,) = [job for job in scene.flink.rest.get("jobs/overview")["jobs"] if job["jid"] in scene.running]
    assert job["name"] == f"orion-{GROUP}-SN"

    # The second start of the jar is another submission, which finds the lease held.
    start()
    await_until(lambda: scene.running == {job["jid"]}, START_TIMEOUT_S, "the second job has ended")
    (second,) = [
        ended
        for ended in scene.flink.rest.get("jobs/overview")["jobs"]
        if ended["state"] == "FAILED" and ended["start-time"] > job["start-time"]
    ]
    failure = scene.flink.rest.get(f"jobs/{second['jid']}/exceptions")["exceptionHistory"]["entries"][0]
    assert "holds the lease of cdr.raw.SN; this one stops" in failure["stacktrace"]
    assert scene.written() == before + 50
