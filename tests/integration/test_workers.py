"""The worker pool of a job on a cluster: a leaking worker is replaced, the pool is drained, and no record is lost."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from orion_beam.proof.audit import conservation
from orion_beam.runners.local.flink import LocalFlink
from orion_beam.runners.local.processes import is_alive
from orion_beam.runners.worker_pool.token import TOKEN_VARIABLE
from orion_beam.runners.worker_pool.versions import REFUSAL
from orion_beam.workspace import Workspace
from tests.integration.harness import START_TIMEOUT_S, Feed, StartJob, await_all_out, await_until, kafka_in, records_on
from tests.integration.pools import Pool, metrics_at, workers_of
from tests.integration.test_cluster import submitted_to
from tests.topics import FINAL, raw_topic

pytestmark = [pytest.mark.integration, pytest.mark.deep]

COUNTRY = "SN"
RECORDS_PER_SECOND = 500
PARALLELISM = 2

JOB = """
version: 1
stages:
  - {name: leak, after: validate, options: {path: PATH}}
"""

LEAK = """
from pathlib import Path
from pydantic import BaseModel
from orion_beam.custom_stages import custom_stage, split

class Options(BaseModel):
    path: str

kept = []

@custom_stage()
def leak(batch, options: Options):
    if Path(options.path).exists():
        kept.append(b"x" * (2 << 20))
    return split(batch)
"""


def running_job(cluster: LocalFlink) -> str:
    """Return the id of the job that runs."""
    (job,) = (job["id"] for job in cluster.rest.get("jobs")["jobs"] if job["status"] == "RUNNING")
    return str(job)


def free_slots(cluster: LocalFlink) -> int:
    return int(cluster.rest.get("overview")["slots-available"])


def exceptions_of(cluster: LocalFlink) -> str:
    """Return what Flink says of the failures of its job."""
    job = running_job(cluster)
    found: dict[str, Any] = cluster.rest.get(f"jobs/{job}/exceptions")
    return json.dumps(found)


def prove_nothing_lost(servers: str, feed: Feed) -> None:
    report = conservation(servers, [raw_topic(COUNTRY).name])
    assert report.records == len(feed.expected)
    assert report.holds, report.problems


def test_a_worker_that_leaks_is_replaced_and_a_pool_that_is_replaced_lets_workers_finish(
    start_job: StartJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, leaks, workspace = tmp_path / "token", tmp_path / "leaks", Workspace(tmp_path / "workspace")
    token.write_text("0123456789abcdef-only-in-the-file")
    token.chmod(0o600)
    workspace.stages.mkdir(parents=True)
    (workspace.stages / "leak.py").write_text(LEAK)
    workspace.job_file.write_text(JOB.replace("PATH", str(leaks)))
    with kafka_in(tmp_path / "kafka") as kafka, LocalFlink(tmp_path / "flink", PARALLELISM) as cluster:
        servers = kafka.bootstrap_servers
        pool = Pool(tmp_path / "pool", "--worker-memory", "700MiB", "--drain-limit", "2m", "--token-file", str(token))
        try:
            pool.await_ready()
            feed = Feed(servers)
            beam = [*submitted_to(cluster, pool.address), f"--parallelism={PARALLELISM}"]
            refused = start_job(servers, "--countries", COUNTRY, beam=beam, workspace=workspace.root)
            assert refused.exit_code(START_TIMEOUT_S) == 2
            assert f"{REFUSAL}: it asks for a token; set ORION_WORKERS_TOKEN_FILE" in refused.log
            await_until(lambda: cluster.job_states() == ["CANCELED"], START_TIMEOUT_S, "the refused job has ended")

            # A task manager finds the token in its environment.
            monkeypatch.setenv(TOKEN_VARIABLE, str(token))
            cluster.kill_task_manager()
            await_until(lambda: free_slots(cluster) == 0, START_TIMEOUT_S, "the task manager is gone")
            cluster.start_task_manager()
            await_until(lambda: free_slots(cluster) == PARALLELISM, START_TIMEOUT_S, "another one is there")
            job = start_job(servers, "--countries", COUNTRY, beam=beam, workspace=workspace.root)
            with feed.flowing(COUNTRY, RECORDS_PER_SECOND):
                job.await_until(lambda: records_on(servers, FINAL.name) > 0, START_TIMEOUT_S, "the first record is out")
                leaks.touch()
                ended = 'orion_workers_ended_total{reason="memory"}'
                await_until(lambda: metrics_at(pool.probes)[ended] > 0, START_TIMEOUT_S, "a worker is ended")
                leaks.unlink()
                assert "of memory, and its limit is 700 MiB: it finishes its bundles and ends" in pool.log
                before = records_on(servers, FINAL.name)
                job.await_until(
                    lambda: records_on(servers, FINAL.name) > before + RECORDS_PER_SECOND, START_TIMEOUT_S, "it goes on"
                )

                family = workers_of(pool.process)
                pool.process.terminate()
                assert pool.process.wait(START_TIMEOUT_S) == 128 + signal.SIGTERM
                assert not any(map(is_alive, family))
                assert "has not finished its bundles in time" not in pool.log
                pool.start()
                before = records_on(servers, FINAL.name)
                job.await_until(
                    lambda: records_on(servers, FINAL.name) > before + RECORDS_PER_SECOND, START_TIMEOUT_S, "it goes on"
                )
            await_all_out(job, servers, feed)
            prove_nothing_lost(servers, feed)
            assert "and its limit is 700 MiB" in exceptions_of(cluster)
            assert (
                "only-in-the-file"
                not in json.dumps([cluster.rest.get(path) for path in job_paths(cluster)]) + pool.log + job.log
            )

            family = workers_of(pool.process)
            pool.process.kill()
            await_until(lambda: not any(map(is_alive, family)), START_TIMEOUT_S, "no worker is left")
        finally:
            pool.clean_up()


def job_paths(cluster: LocalFlink) -> list[str]:
    """Return the paths of Flink's REST API that tell about its job."""
    of_job = f"jobs/{running_job(cluster)}"
    return [of_job, f"{of_job}/config", f"{of_job}/plan", f"{of_job}/exceptions", "jobmanager/environment"]
