"""A job on a Flink cluster survives TaskManagers that are killed, and a second Ctrl-C cancels it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orion_beam.proof.audit import conservation
from orion_beam.runners.jars.build import guard_environment
from orion_beam.runners.local.broker import HOST, free_ports, is_taken
from orion_beam.runners.local.flink import LocalFlink
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.runners.monitoring.dashboards import DASHBOARDS
from tests.debian import may_use
from tests.integration.harness import (
    FREQUENT_CHECKPOINTS,
    START_TIMEOUT_S,
    Feed,
    Job,
    StartJob,
    await_all_out,
    await_until,
    committed_offsets,
    lease_holders,
    records_on,
)
from tests.integration.local import limit_options, local_in
from tests.integration.prometheus import PATIENCE_S, Prometheus
from tests.topics import DEAD_LETTERS, FINAL, raw_topic

pytestmark = pytest.mark.integration

COUNTRY = "SN"
GROUP = "orion-beam"
RECORDS_PER_SECOND = 1_000
PARALLELISM = 4
"""Without a shuffle each subtask restarts by itself: a TaskManager that is lost is so many failures."""


@contextmanager
def workers(log_file: Path, metrics_port: int) -> Iterator[str]:
    """The Python workers, as the README has them started beside a task manager."""
    (port,) = free_ports(1)
    address = f"{HOST}:{port}"
    command = [sys.executable, "-m", "orion_beam.cli.main", "workers", "--listen", address]
    command += ["--metrics-listen", f"{HOST}:{metrics_port}"]
    with log_file.open("wb") as log:
        pool = subprocess.Popen(command, env=os.environ | guard_environment(), stdout=log, stderr=log)
    try:
        await_until(lambda: is_taken(port) or pool.poll() is not None, START_TIMEOUT_S, "the pool listens")
        yield address
    finally:
        pool.terminate()
        pool.wait(600)


NOT_OF_ONE_COUNTRY = {"orion_flink_read_held_ratio"}
"""Flink measures this only where the reads are tasks of their own: in jobs over several countries."""


def shows_something_in_every_panel(prometheus: Prometheus) -> bool:
    """Return whether each query of the dashboards finds something; print those that do not."""
    every = [query for _, panels in DASHBOARDS.values() for panel in panels for query in panel.queries.values()]
    queries = [query for query in every if query not in NOT_OF_ONE_COUNTRY]
    empty = [query for query in queries if prometheus.value(query.replace("$country", ".*")) is None]
    print(f"{len(empty)} of {len(queries)} queries find nothing: {empty}")
    return not empty


def submitted_to(cluster: LocalFlink, workers_address: str) -> list[str]:
    """Return Beam's options for a job on a cluster, as the README has them."""
    return [
        f"--flink_master={cluster.address}",
        "--environment_type=EXTERNAL",
        f"--environment_config={workers_address}",
        f"--parallelism={PARALLELISM}",
        FREQUENT_CHECKPOINTS,
    ]


def lose_task_manager(cluster: LocalFlink, job: Job, servers: str) -> None:
    """Kill the TaskManager, start another, and wait until the job has got further."""

    def committed() -> int:
        return sum(committed_offsets(servers, GROUP, raw_topic(COUNTRY).name).values())

    cluster.kill_task_manager()
    before = committed()
    cluster.start_task_manager()
    job.await_until(
        lambda: committed() > before + RECORDS_PER_SECOND, START_TIMEOUT_S, "the job goes on on the new TaskManager"
    )


def prove_nothing_lost(servers: str, feed: Feed) -> None:
    report = conservation(servers, [raw_topic(COUNTRY).name])
    assert report.records == len(feed.expected)
    assert report.holds, report.problems


UNREAD_MEMBER = json.dumps(
    {"imsi": "608011234567890", "msisdn": "+221771234567", "timestamp": "2026-06-01T10:00:00Z", "bytes_up": 1}
).encode()
QUICK_ALERTS = limit_options(interval="1s", hold="0s", outage="0s", window="5s", checkpoint_age_s=8)
STALLED = ("OrionFlinkDown", None), ("OrionCheckpointsFail", None)


@pytest.mark.deep
def test_a_job_on_a_cluster_loses_nothing_when_task_managers_are_killed_and_ends_on_a_second_ctrl_c(
    start_job: StartJob, tmp_path: Path
):
    (metrics_port,) = free_ports(1)
    with (
        LocalFlink(tmp_path / "flink", PARALLELISM) as cluster,
        workers(tmp_path / "workers.log", metrics_port) as workers_address,
        local_in(tmp_path) as local,
    ):
        watch = ["--monitoring", f"--flink={cluster.address}", f"--workers-port={metrics_port}", *QUICK_ALERTS]
        up = local.up([COUNTRY], *watch)
        # Without Prometheus, what matters most is still tested.
        alerts = Prometheus(up["prometheus"]) if may_use("prometheus") else None
        servers = up["bootstrap_servers"]
        feed = Feed(servers)
        # One panel is of members that no format reads.
        feed.send(raw_topic(COUNTRY).name, b"key", UNREAD_MEMBER, code=None)
        job = start_job(servers, "--countries", COUNTRY, beam=submitted_to(cluster, workers_address))
        with feed.flowing(COUNTRY, RECORDS_PER_SECOND):
            job.await_until(lambda: records_on(servers, FINAL.name) > 0, START_TIMEOUT_S, "the first record is out")
            if alerts is not None:
                alerts.await_clear(*STALLED)
                await_until(lambda: shows_something_in_every_panel(alerts), PATIENCE_S, "no panel is empty")
            cluster.kill_task_manager()
            if alerts is not None:
                alerts.await_firing(*STALLED)
            cluster.start_task_manager()
            if alerts is not None:
                alerts.await_clear(*STALLED)
            lose_task_manager(cluster, job, servers)
        await_all_out(job, servers, feed)
        assert cluster.job_states() == ["RUNNING"]
        lines = re.compile(r"^last \d+ s: [\d,]+ read \(\d+/s\), [\d,]+ written to cdr.final, [\d,]+ rejected", re.M)
        job.await_until(lambda: lines.search(job.log), START_TIMEOUT_S, "it has told how it gets on")
        job.send(signal.SIGINT)
        job.await_until(lambda: "detached: job " in job.log, START_TIMEOUT_S, "it has told that the job lives on")
        assert cluster.job_states() == ["RUNNING"]
        job.send(signal.SIGINT)
        assert job.exit_code() == 130
        assert cluster.job_states() == ["CANCELED"]
        prove_nothing_lost(servers, feed)


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_twenty_task_managers_lost_in_the_life_of_one_job(kafka: LocalKafka, start_job: StartJob, tmp_path: Path):
    (metrics_port,) = free_ports(1)
    servers = kafka.bootstrap_servers
    with (
        LocalFlink(tmp_path / "flink", PARALLELISM) as cluster,
        workers(tmp_path / "workers.log", metrics_port) as workers_address,
    ):
        feed = Feed(servers)
        job = start_job(servers, "--countries", COUNTRY, beam=submitted_to(cluster, workers_address))
        with feed.flowing(COUNTRY, RECORDS_PER_SECOND):
            job.await_until(lambda: records_on(servers, FINAL.name) > 0, START_TIMEOUT_S, "the first record is out")
            for loss in range(1, 21):
                began = time.monotonic()
                lose_task_manager(cluster, job, servers)
                print(f"loss {loss}: {time.monotonic() - began:.1f} s until more was committed")
        await_all_out(job, servers, feed)
        assert cluster.job_states() == ["RUNNING"]
        # The job outlives the program that submitted it, and a second one is refused all the same.
        job.send(signal.SIGKILL)
        job.exit_code()
        second = start_job(servers, "--countries", COUNTRY, beam=submitted_to(cluster, workers_address))
        assert second.exit_code(START_TIMEOUT_S) == 2
        assert "with the same configuration: --replace" in second.log
        (running,) = cluster.rest.get("jobs")["jobs"]
        cluster.rest.cancel(running["id"])
        await_until(lambda: lease_holders(servers, GROUP) == [], START_TIMEOUT_S, "the lease is free")
        prove_nothing_lost(servers, feed)
        written = records_on(servers, FINAL.name) + records_on(servers, DEAD_LETTERS.name)
        print(f"{len(feed.expected):,} records in, {written - len(feed.expected):,} of them written more than once")
