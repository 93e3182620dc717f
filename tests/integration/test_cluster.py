"""A job submitted to a Flink cluster as one jar: it survives a TaskManager that is killed, and Ctrl-C cancels it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from orion_beam.kafka.audit import conservation
from orion_beam.kafka.topics import raw_topic
from runners.broker import HOST, free_ports
from runners.jars import build_uber_jar, guard_environment
from runners.local_flink import LocalFlink
from runners.local_kafka import LocalKafka
from runners.monitoring import stack
from runners.monitoring.alerts import AlertLimits
from tests.debian import may_use, require_program
from tests.integration.harness import (
    FREQUENT_CHECKPOINTS,
    START_TIMEOUT_S,
    Feed,
    StartJob,
    await_all_out,
    await_until,
    records_on,
)
from tests.integration.prometheus import Prometheus

pytestmark = [pytest.mark.integration, pytest.mark.timeout(420)]

COUNTRY = "SN"
RECORDS_PER_SECOND = 1_000


@contextmanager
def workers(log_file: Path) -> Iterator[str]:
    """The Python workers, as the README has them started beside a task manager."""
    (port,) = free_ports(1)
    address = f"{HOST}:{port}"
    command = [sys.executable, "-m", "orion_beam.cli.main", "workers", "--listen", address]
    with log_file.open("wb") as log:
        pool = subprocess.Popen(command, env=os.environ | guard_environment(), stdout=log, stderr=log)
    try:
        yield address
    finally:
        pool.terminate()
        pool.wait(30)


@contextmanager
def watched(home: Path, servers: str, cluster: LocalFlink) -> Iterator[Prometheus]:
    """A monitor and a Prometheus that watch the cluster, with alerts that are as quick as a test needs them."""
    require_program("prometheus", package="prometheus")
    limits = AlertLimits(interval="1s", hold="0s", outage="0s", window="5s", checkpoint_age_s=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORION_HOME", str(home))
        try:
            started = stack.start_monitoring(
                servers, str(home), [], ["--flink", cluster.address], limits=limits, interval_s=1
            )
            assert started.prometheus is not None
            found = Prometheus(started.prometheus)
            found.await_history()
            yield found
        finally:
            stack.stop_monitoring()


STALLED = ("OrionFlinkDown", None), ("OrionCheckpointsFail", None)


def test_a_job_on_a_cluster_loses_nothing_when_a_task_manager_is_killed_and_ends_on_ctrl_c(
    kafka: LocalKafka, start_job: StartJob, tmp_path: Path
):
    servers = kafka.bootstrap_servers
    jar = build_uber_jar(print)
    feed = Feed(servers)
    with workers(tmp_path / "workers.log") as workers_address, LocalFlink(tmp_path / "flink") as cluster:
        job = start_job(
            servers,
            *("--countries", COUNTRY),
            beam=[
                f"--flink_master={cluster.address}",
                "--flink_submit_uber_jar",
                f"--flink_job_server_jar={jar}",
                "--environment_type=EXTERNAL",
                f"--environment_config={workers_address}",
                FREQUENT_CHECKPOINTS,
            ],
        )
        with feed.flowing(COUNTRY, RECORDS_PER_SECOND), ExitStack() as watching:
            job.await_until(lambda: records_on(servers, "cdr.final") > 0, START_TIMEOUT_S, "the first record is out")
            # Without Prometheus, what matters most is still tested.
            alerts = watching.enter_context(watched(tmp_path, servers, cluster)) if may_use("prometheus") else None
            if alerts is not None:
                alerts.await_clear(*STALLED)
            cluster.kill_task_manager()
            if alerts is not None:
                alerts.await_firing(*STALLED)
            before = records_on(servers, "cdr.final")
            cluster.start_task_manager()
            job.await_until(
                lambda: records_on(servers, "cdr.final") > before + RECORDS_PER_SECOND,
                START_TIMEOUT_S,
                "the job goes on on the new TaskManager",
            )
            if alerts is not None:
                alerts.await_clear(*STALLED)
        await_all_out(job, servers, feed)
        assert cluster.job_states() == ["RUNNING"]
        job.send(signal.SIGINT)
        assert job.exit_code() == 130
        await_until(lambda: cluster.job_states() == ["CANCELED"], 5, "the cluster knows that the job is cancelled")
    report = conservation(servers, [raw_topic(COUNTRY).name])
    assert report.records == len(feed.expected)
    assert report.holds, report.problems
