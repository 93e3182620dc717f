"""`orion-beam doctor` where nothing runs: what it says of this machine, of options, and of what cannot be reached.

tests/integration/test_doctor.py has it look at real Kafka, Flink and workers.
"""

import json
import socket
from collections.abc import Iterator
from functools import partial

import pytest

from orion_beam.kafka import admin


@pytest.fixture
def doctor(orion_beam, monkeypatch):
    monkeypatch.setattr(admin, "TIMEOUT_S", 1)
    return partial(orion_beam, "doctor")


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{reserved.getsockname()[1]}"


def checks_of(answer) -> dict[str, dict[str, str]]:
    found = json.loads(answer.out)
    assert found["ok"] is (answer.code == 0)
    return {check["name"]: check for check in found["checks"]}


def test_a_machine_without_java_fails_and_is_told_what_to_install(doctor, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    answer = doctor("--json")
    java = checks_of(answer)["Java"]
    assert (answer.code, java["status"], java["found"]) == (1, "failed", "no java on PATH")
    assert java["fix"].startswith("install a JDK 17")


def test_versions_of_beam_in_python_and_java_and_all_pins_agree(doctor):
    versions = checks_of(doctor("--json"))["versions"]
    assert versions["status"] == "ok"
    assert versions["found"].startswith("Beam 2.70.0 in Python and Java")


@pytest.mark.parametrize(
    ("arguments", "name", "found"),
    [
        (["--consumer-config", "enable.auto.commit=true"], "Kafka settings", "enable.auto.commit=true is refused"),
        (["--producer-config", "acks=1"], "Kafka settings", "acks=1 is refused"),
        (["--cells", "/nowhere/cells.csv"], "reference data", "/nowhere/cells.csv"),
    ],
)
def test_what_is_given_is_checked_as_run_checks_it(doctor, arguments, name, found):
    answer = doctor("--json", *arguments)
    check = checks_of(answer)[name]
    assert (answer.code, check["status"]) == (1, "failed")
    assert found in check["found"]


def test_a_broker_that_does_not_answer_is_named_and_the_rest_of_kafka_left_out(doctor, closed_port):
    answer = doctor("--json", "--bootstrap-servers", closed_port, "--countries", "FR")
    checks = checks_of(answer)
    assert answer.code == 1
    assert checks["topics"]["status"] == "failed"
    assert checks["topics"]["found"].startswith(f"Kafka at {closed_port} does not answer (")
    assert checks["topics"]["fix"].startswith("check the address, ")
    assert checks["topics"]["fix"].endswith("or start one with `orion-beam local up`")
    assert checks["rest of Kafka"]["status"] == "skipped"
    assert "unread records" not in checks


def test_a_flink_that_does_not_answer_is_named(doctor, closed_port):
    answer = doctor("--json", "--", f"--flink_master={closed_port}")
    flink = checks_of(answer)["Flink"]
    assert (answer.code, flink["status"]) == (1, "failed")
    assert f"http://{closed_port}" in flink["found"]


def test_a_pool_on_the_hosts_of_the_task_managers_cannot_be_judged_from_here(doctor, closed_port):
    pool = ["--environment_type=EXTERNAL", f"--environment_config={closed_port}"]
    check = checks_of(doctor("--json", "--", *pool))["worker pool"]
    assert (check["status"], "run doctor there" in check["found"]) == ("skipped", True)


def test_a_table_shows_what_to_do(doctor, closed_port):
    answer = doctor("--bootstrap-servers", closed_port)
    assert answer.code == 1
    text = " ".join(answer.out.replace("│", " ").split())
    assert "Before the job is submitted" in text
    assert "fix: check the address, log in by --kafka-config if it wants that, or start" in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--from-workers"], "--environment_config=HOST:PORT"),
        (["--from-workers", "--bootstrap-servers", "localhost:1"], "--environment_type=EXTERNAL"),
        (["--replay-window", "soon"], "--replay-window 'soon'"),
        (["--countries", "XX"], "unknown country 'XX'"),
        (["--publish", "decoded"], "--publish decoded"),
        (["--", "--paralelism=4"], "did you mean --parallelism?"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(doctor, arguments, named):
    answer = doctor(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("orion-beam: error: ")
    assert answer.err.count("\n") == 1
    assert named in answer.err
