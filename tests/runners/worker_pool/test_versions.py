"""The versions of a job and of its worker pool: who compares them, and in which words a pool refuses."""

import json

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from orion_beam.doctor.findings import Status
from orion_beam.errors import UserError
from orion_beam.runners.doctor import worker_pool as checks
from orion_beam.runners.doctor.worker_pool import check_pool
from orion_beam.runners.flink import flink_arguments
from orion_beam.runners.jars.build import Jars
from orion_beam.runners.job_target import JobTarget
from orion_beam.runners.worker_pool.pool import worker_pool
from orion_beam.runners.worker_pool.versions import REFUSAL, own_versions, refusal, with_versions

POOL = ["--environment_type=EXTERNAL", "--environment_config=localhost:50000"]
OTHER = {**own_versions(), "orion-beam": "0.9.9", "python": "3.13"}
IN_ONE_LINE = (
    f"{REFUSAL}: orion-beam {own_versions()['orion-beam']} in the pool, 0.9.9 in the job;"
    f" Python {own_versions()['python']} in the pool, 3.13 in the job"
)


def test_the_line_names_what_differs_with_both_versions():
    assert refusal(OTHER, own_versions()) == IN_ONE_LINE
    assert "\n" not in IN_ONE_LINE
    assert refusal(own_versions(), own_versions()) == refusal({}, own_versions()) == ""


def test_the_environment_of_a_job_carries_its_versions(tmp_path):
    *_, last = flink_arguments(Jars.within(tmp_path), POOL)
    name, _, value = last.partition("=")
    assert (name, json.loads(value)) == (
        "--environment_config",
        {"url": "localhost:50000", "params": dict(own_versions())},
    )
    assert JobTarget.of(POOL).pool == JobTarget.of([POOL[0], last]).pool == "localhost:50000"


@pytest.mark.parametrize("arguments", [[], ["--environment_type=DOCKER", "--environment_config=image:1"]])
def test_without_a_pool_the_options_stay_as_they_are(arguments):
    assert with_versions(arguments) == arguments


def test_parameters_of_the_users_own_stay():
    own = '--environment_config={"url": "h:1", "params": {"mine": "1"}}'
    *_, last = with_versions([POOL[0], own])
    assert json.loads(last.partition("=")[2])["params"] == {"mine": "1", **own_versions()}


def test_a_broken_environment_is_a_mistake_of_the_user():
    with pytest.raises(UserError, match="--environment_config: expected HOST:PORT"):
        with_versions([POOL[0], "--environment_config={url: localhost}"])


def test_a_pool_refuses_a_job_of_another_version_with_one_line_and_starts_nothing():
    with worker_pool() as address, grpc.insecure_channel(address) as channel:
        pool = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        answer = pool.StartWorker(beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1", params=OTHER), timeout=600)
    assert answer.error == IN_ONE_LINE


def test_a_submitter_of_another_version_is_told_before_it_submits(monkeypatch):
    with worker_pool() as address:
        assert check_pool(address).status is Status.OK
        monkeypatch.setattr(checks, "own_versions", lambda: OTHER)
        check = check_pool(address)
    assert (check.status, check.found) == (Status.FAILED, IN_ONE_LINE)


def test_a_pool_that_should_be_on_this_host_and_is_not_is_missed(closed_port):
    assert check_pool(closed_port, "http://jobmanager:8081").status is Status.SKIPPED
    assert check_pool(closed_port, "http://localhost:8081").status is Status.FAILED
