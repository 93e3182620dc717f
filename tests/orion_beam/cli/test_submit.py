"""`orion-beam submit` where nothing runs: what it refuses, in one line with exit code 2, before it changes anything.

tests/integration/test_submit.py submits to a real cluster.
"""

import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from orion_beam.kafka import CONFIG_VARIABLE, admin
from orion_beam.runners.local.broker import free_ports

POOL = ["--environment_type=EXTERNAL", "--environment_config=10.0.0.1:50000"]


@pytest.fixture
def submit(orion_beam, monkeypatch, tmp_path):
    monkeypatch.setattr(admin, "TIMEOUT_S", 1)
    # Nothing is fetched or built: what is refused, is refused before, and in one line.
    monkeypatch.setenv("ORION_HOME", str(tmp_path / "no-jars"))
    return partial(orion_beam, "submit", "--countries", "FR")


@pytest.fixture
def closed_address() -> str:
    (port,) = free_ports(1)
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def cluster() -> Iterator[tuple[str, dict[str, Any]]]:
    """An address that answers as a JobManager does, and the answers by path."""
    answers: dict[str, Any] = {
        "/v1/overview": {"flink-version": "1.19.0", "slots-total": 1, "slots-available": 0, "taskmanagers": 1},
        "/v1/taskmanagers": {"taskmanagers": [{"slotsNumber": 1, "memoryConfiguration": {"jvmMetaspace": 256 << 20}}]},
        "/v1/jobmanager/config": [],
        "/v1/jobs/overview": {"jobs": []},
    }

    class JobManager(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answers[self.path]).encode())

        def log_message(self, format: str, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), JobManager) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", answers
        finally:
            server.shutdown()
            thread.join()


def refusal_of(answer) -> str:
    assert (answer.code, answer.out) == (2, "")
    *warnings, line = answer.err.splitlines()
    assert all(each.startswith("warning: ") for each in warnings)
    return line.removeprefix("orion-beam: error: ")


def test_a_stream_needs_brokers_and_a_cluster(submit):
    assert "give --bootstrap-servers" in refusal_of(submit())
    line = refusal_of(submit("--bootstrap-servers", "localhost:1"))
    assert line.startswith("no cluster to submit to: give -- --flink_master=http://HOST:PORT")
    assert "`orion-beam run` has an embedded Flink" in line


def test_a_cluster_needs_workers(submit, closed_address):
    line = refusal_of(submit("--bootstrap-servers", "localhost:1", "--", f"--flink_master={closed_address}"))
    assert "--environment_type=EXTERNAL" in line


def test_a_cluster_that_does_not_answer_is_named(submit, closed_address):
    beam = (f"--flink_master={closed_address}", *POOL)
    line = refusal_of(submit("--bootstrap-servers", "localhost:1", "--", *beam))
    assert line.startswith(f"{closed_address} does not answer as Flink's REST API does")
    assert line.endswith("check --flink_master")


def test_another_flink_is_named_with_its_version(submit, cluster):
    address, answers = cluster
    answers["/v1/overview"]["flink-version"] = "1.20.1"
    line = refusal_of(submit("--bootstrap-servers", "localhost:1", "--", f"--flink_master={address}", *POOL))
    assert line == f"{address} runs 1.20.1, and this job is made for 1.19: use a 1.19 cluster"


def test_no_pool_at_its_address_is_named(submit, cluster):
    address, _ = cluster
    (port,) = free_ports(1)
    pool = (POOL[0], f"--environment_config=127.0.0.1:{port}")
    line = refusal_of(submit("--bootstrap-servers", "localhost:1", "--", f"--flink_master={address}", *pool))
    assert line.startswith(f"127.0.0.1:{port} cannot be reached from here")
    assert line.endswith("start it there: orion-beam workers --listen HOST:PORT")


def test_too_few_slots_are_counted_for_all_jobs(submit, cluster):
    address, answers = cluster
    answers["/v1/overview"]["slots-available"] = 3
    brokers = ("--bootstrap-servers", "localhost:1")
    beam = ("--", f"--flink_master={address}", "--environment_type=DOCKER", "--parallelism=2")
    line = refusal_of(submit(*brokers, "--countries", "FR,TN", "--split-by-country", *beam))
    assert line.startswith("3 of 1 slots free on 1 task managers, 4 needed")
    assert "does not answer" in refusal_of(submit(*brokers, *beam)), "one job has enough, and Kafka is asked next"


def test_a_job_that_runs_is_named_before_slots_are_counted(submit, cluster):
    address, answers = cluster
    job_id = "9f2c86b1d4aa4e0bb1f3c0e2a7d85c16"
    answers["/v1/jobs/overview"]["jobs"] = [{"jid": job_id, "name": "orion-g-FR", "state": "RESTARTING"}]
    about = {"orionConfiguration": "x", "orionVersion": "0.0.9", "orionGroup": "g", "orionCountries": "TN,FR"}
    answers[f"/v1/jobs/{job_id}/config"] = {"execution-config": {"user-config": about}}
    beam = ("--", f"--flink_master={address}", "--environment_type=DOCKER")
    line = refusal_of(submit("--bootstrap-servers", "localhost:1", "--group-id", "g", *beam))
    assert line.startswith(
        f"job {job_id} (orion-g-FR, version 0.0.9) runs on {address} already, as group g with another"
    )
    other = refusal_of(submit("--bootstrap-servers", "localhost:1", "--group-id", "h", *beam))
    assert other.startswith("0 of 1 slots free"), "another group's job is another job"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--to-jar", "x.jar", "--attached"), "--attached: no effect with --to-jar"),
        (("--to-jar", "x.jar", "--split-by-country"), "--split-by-country: no effect with --to-jar"),
        (("--quiet",), "--quiet: no effect without --attached"),
        (
            ("--countries", "FR,TN", "--split-by-country", "--attached"),
            "--attached and --from-savepoint are for one job",
        ),
        (("--wait", "long"), "--wait"),
    ],
)
def test_options_that_do_not_go_together(submit, closed_address, options, named):
    brokers = ("--bootstrap-servers", "localhost:1")
    assert named in refusal_of(submit(*brokers, *options, "--", f"--flink_master={closed_address}", *POOL))


def test_a_jar_needs_workers_and_a_directory(submit, tmp_path):
    to_jar = ("--bootstrap-servers", "localhost:1", "--to-jar", tmp_path / "no" / "job.jar")
    assert "--environment_type=EXTERNAL" in refusal_of(submit(*to_jar))
    assert refusal_of(submit(*to_jar, "--", *POOL)).endswith(f"there is no directory {tmp_path / 'no'} to write to")


@pytest.mark.parametrize("ends", [True, False])
def test_a_login_that_the_job_cannot_read_when_the_command_has_ended_is_warned_of(
    submit, closed_address, monkeypatch, tmp_path, ends
):
    (tmp_path / "client.properties").write_text("security.protocol=PLAINTEXT\n")
    with (tmp_path / "client.properties").open() as login:
        opened = f"/proc/{os.getpid()}/fd/{login.fileno()}"
        monkeypatch.setenv(CONFIG_VARIABLE, opened if ends else str(tmp_path / "client.properties"))
        answer = submit("--bootstrap-servers", "localhost:1", "--", f"--flink_master={closed_address}", *POOL)
    assert "does not answer" in refusal_of(answer)
    assert ("warning: the login to Kafka is known to this command only" in answer.err) is ends
