"""A cluster of two JobManagers with ZooKeeper and its state on S3: a job outlives the leader and a TaskManager.

The leader is killed while the job is submitted, while it runs, and while it is stopped.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from orion_beam.monitoring.flink_rest import FlinkRest
from orion_beam.proof.audit import conservation
from orion_beam.runners.local.broker import free_ports
from orion_beam.runners.local.flink import LocalFlink
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.runners.local.zookeeper import LocalZooKeeper
from tests.command import Command
from tests.integration.harness import START_TIMEOUT_S, Feed, await_until, committed_offsets, records_on
from tests.integration.test_cluster import workers
from tests.integration.test_submit import GROUP, Scene
from tests.s3 import S3, s3_in
from tests.topics import FINAL, raw_topic

pytestmark = [pytest.mark.integration, pytest.mark.deep, pytest.mark.timeout(1_800)]

COUNTRY = "SN"
RECORDS_PER_SECOND = 500
SESSION_MS = 10_000
"""A busy machine may stop a JVM for seconds; a leader whose session ends leads no more."""


@contextmanager
def highly_available(directory: Path, s3: S3, slots: int, session_ms: int = SESSION_MS) -> Iterator[LocalFlink]:
    """Run two JobManagers and two TaskManagers, with the settings of docs/operate/high-availability.md."""
    login = {"AWS_CREDENTIAL_PROFILES_FILE": str(s3.credentials)}
    with LocalZooKeeper(directory / "zookeeper") as zookeeper:
        settings = {
            "high-availability.type": "zookeeper",
            "high-availability.zookeeper.quorum": zookeeper.address,
            "high-availability.zookeeper.client.session-timeout": session_ms,
            "high-availability.zookeeper.client.connection-timeout": session_ms,
            "high-availability.zookeeper.client.tolerate-suspended-connections": "true",
            "high-availability.cluster-id": "/orion",
            "high-availability.storageDir": f"s3://{s3.bucket}/high-availability",
            "state.checkpoints.dir": f"s3://{s3.bucket}/checkpoints",
            "state.savepoints.dir": f"s3://{s3.bucket}/savepoints",
            "s3.endpoint": s3.endpoint,
            "s3.path.style.access": "true",
            "s3.aws.credentials.provider": "com.amazonaws.auth.profile.ProfileCredentialsProvider",
        }
        flink = directory / "flink"
        with LocalFlink(
            flink, slots, task_managers=2, job_managers=2, settings=settings, environment=login, s3=True
        ) as cluster:
            yield cluster


def kill_leader(cluster: LocalFlink) -> int:
    """Kill the JobManager that leads; return its number."""
    leader = cluster.leader
    assert leader is not None
    cluster.kill_job_manager(leader)
    return leader


SUBMISSION = """
import sys
from orion_beam.cli.main import main
from orion_beam.monitoring.flink_rest import FlinkRest

upload = FlinkRest.upload

def upload_after_a_line(*arguments):
    sys.stdin.readline()
    return upload(*arguments)

FlinkRest.upload = upload_after_a_line
main()
"""
"""`orion-beam` that waits, before it uploads a jar, for a line or the end of its input."""


def submit_while_the_leader_goes(scene: Scene) -> None:
    """Submit the job; before the upload of its jar, the JobManager that leads is killed, and comes back later."""
    options = scene.command("--countries", COUNTRY, beam=["--parallelism=2"])[3:]
    command = [sys.executable, "-c", SUBMISSION, *options]
    lines, killed = [], 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as submission:
        assert submission.stdin is not None
        assert submission.stderr is not None
        for line in submission.stderr:
            lines.append(line)
            if line.startswith("uploading "):
                killed = kill_leader(scene.flink)
                submission.stdin.close()
    assert submission.returncode == 0, lines
    assert any(line.startswith("the cluster does not accept the jar now") for line in lines), lines
    scene.flink.start_job_manager(killed)


@contextmanager
def standing_still() -> Iterator[None]:
    """Stop the TaskManagers by SIGSTOP while the block runs."""
    children = psutil.Process().children(recursive=True)
    found = [child for child in children if any("TaskManagerRunner" in word for word in child.cmdline())]
    assert len(found) == 2
    for one in found:
        one.suspend()
    try:
        yield
    finally:
        for one in found:
            one.resume()


def test_a_job_outlives_the_leading_job_manager_and_a_task_manager_with_its_state_on_s3(
    kafka: LocalKafka, tmp_path: Path, orion_beam: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = kafka.bootstrap_servers

    def committed() -> int:
        return sum(committed_offsets(servers, GROUP, raw_topic(COUNTRY).name).values())

    def await_more(seconds: int) -> None:
        before = committed()
        await_until(
            lambda: committed() >= before + seconds * RECORDS_PER_SECOND, START_TIMEOUT_S, "more records are committed"
        )

    with (
        s3_in(tmp_path / "s3") as s3,
        highly_available(tmp_path, s3, slots=1) as cluster,
        workers(tmp_path / "workers.log", free_ports(1)[0]) as pool,
    ):
        scene, feed = Scene(servers, cluster, pool, tmp_path), Feed(servers)
        with feed.flowing(COUNTRY, RECORDS_PER_SECOND):
            began = time.monotonic()
            submit_while_the_leader_goes(scene)
            await_until(lambda: records_on(servers, FINAL.name) > 0, START_TIMEOUT_S, "the first record is out")
            print(f"{time.monotonic() - began:.1f} s from the command to the first record")
            (job_id,) = scene.running
            assert s3.keys(f"checkpoints/{job_id}/")

            began = time.monotonic()
            leader = kill_leader(cluster)
            await_until(lambda: cluster.leader == 3 - leader, START_TIMEOUT_S, "the other JobManager leads")
            print(f"{time.monotonic() - began:.1f} s from the kill to the next leader")
            await_more(2)
            print(f"{time.monotonic() - began:.1f} s from the kill until more was committed")
            # The one that was killed comes back as the standby. Each answers for the leader.
            cluster.start_job_manager(leader)
            assert scene.running == {job_id}
            assert f"s3://{s3.bucket}/checkpoints/{job_id}/" in str(scene.restored(job_id))

            began = time.monotonic()
            cluster.kill_task_manager(1)
            cluster.start_task_manager(1)
            await_more(2)
            print(f"{time.monotonic() - began:.1f} s from the loss of a TaskManager until more was committed")

        await_until(lambda: committed() == len(feed.expected), START_TIMEOUT_S, "all records are committed")
        post, killed = FlinkRest.post, []

        def post_and_kill(self: FlinkRest, path: str, *rest: Any) -> Any:
            if killed:
                return post(self, path, *rest)
            # So that no savepoint is complete before the leader is gone.
            with standing_still():
                answer = post(self, path, *rest)
                killed.append(kill_leader(cluster))
            return answer

        # The leader goes when it has taken the request, and the next one knows nothing of the stop.
        monkeypatch.setattr(FlinkRest, "post", post_and_kill)
        directory = f"s3://{s3.bucket}/savepoints"
        place = ["--flink", cluster.address, "--bootstrap-servers", servers, "--savepoint-dir", directory]
        stopped = orion_beam("jobs", "stop", job_id, *place)
        assert stopped.code == 0, stopped.err
        assert "another JobManager leads now, and does not know of the stop" in stopped.err
        assert s3.keys(stopped.out.splitlines()[-1].removeprefix(f"s3://{s3.bucket}/"))
        assert not scene.running
    report = conservation(servers, [raw_topic(COUNTRY).name])
    assert report.records == len(feed.expected)
    assert report.holds, report.problems
