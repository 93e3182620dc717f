"""A cluster that wants a login: every command takes it from one file, and without it says so."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.runners.local.broker import HOST, free_ports, is_taken
from tests.integration.harness import FREQUENT_CHECKPOINTS, START_TIMEOUT_S, StartJob, await_until, records_on, scrape
from tests.integration.secured import PASSWORD, PLAIN_PASSWORD, USER, Secured, secured_kafka

pytestmark = pytest.mark.integration

RECORDS = 2_000
ALL = ("--from", "2020-01-01T00:00Z", "--to", "2100-01-01T00:00Z")


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_kafka(tmp_path_factory.mktemp("secured") / "kafka") as secured:
        yield secured


@pytest.fixture
def login(kafka: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, which the environment names: what is in this process and all that it starts goes by it."""
    (tmp_path / "ca.pem").write_bytes(kafka.ca.read_bytes())
    file = tmp_path / "client.properties"
    file.write_text(
        "# the CA beside this file\nssl.ca.location = ca.pem\nsecurity.protocol=SASL_SSL\n"
        f"sasl.mechanism=SCRAM-SHA-256\nsasl.username={USER}\nsasl.password={PASSWORD}\n"
    )
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    return file


def call(*arguments: object, code: int = 0) -> str:
    """Run a command, and return what it prints; never a password."""
    command = [sys.executable, "-m", "orion_beam.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    printed = done.stdout + done.stderr
    assert done.returncode == code, printed
    assert not any(secret in printed for secret in (PASSWORD, PLAIN_PASSWORD))
    return printed if code else done.stdout


@pytest.mark.usefixtures("login")
def test_every_command_logs_in_by_the_file_that_the_environment_names(
    kafka: Secured, tmp_path: Path, start_job: StartJob
) -> None:
    servers = ["--bootstrap-servers", kafka.servers]
    of_france = [*servers, "--countries", "FR"]
    call("topics", "apply", *of_france, "--profile", "development", "--yes")
    call("generate", *of_france, "--count", RECORDS, "--fault-rate", "0.05")
    checks = json.loads(call("doctor", *of_france, "--json"))["checks"]
    assert {"topics", "rights", "brokers"} <= {check["name"] for check in checks if check["status"] == "ok"}

    job = start_job(kafka.servers, "--countries", "FR", beam=[FREQUENT_CHECKPOINTS])
    out = ("cdr.final", "cdr.dlq")
    job.await_until(lambda: records_on(kafka.servers, *out) >= RECORDS, START_TIMEOUT_S, "all are out")
    job.send(signal.SIGINT)
    assert job.exit_code() == 130
    assert PASSWORD not in job.log

    audit = json.loads(call("audit", *of_france, "--json"))
    assert (audit["records"], audit["missing"]) == (RECORDS, 0)
    rejected = json.loads(call("dlq", "stats", *servers, "--json"))["letters"]
    assert rejected == records_on(kafka.servers, "cdr.dlq")
    call("replay", *of_france, *ALL, "--yes", "--output", tmp_path / "out")
    files = list((tmp_path / "out").rglob("*.parquet"))
    assert sum(pq.read_metadata(file).num_rows for file in files if "cdr.final" in str(file)) == RECORDS - rejected
    sent = json.loads(call("dlq", "redrive", *servers, "--execute", "--no-validate", "--json"))
    assert sent["fates"] == {"sent": rejected}
    call("trace", *servers, "--topic", "cdr.raw.FR", "--partition", "0", "--offset", "0")
    with monitor(kafka.servers) as url:
        await_until(
            lambda: value_of(f"{url}/metrics", "orion_kafka_up") == 1, START_TIMEOUT_S, "the monitor has logged in"
        )


@contextmanager
def monitor(servers: str) -> Iterator[str]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "orion_beam.cli.main", "monitor", "--bootstrap-servers", servers]
    process = subprocess.Popen([*command, "--listen", f"{HOST}:{port}"], stdout=subprocess.DEVNULL)
    try:
        await_until(lambda: is_taken(port), START_TIMEOUT_S, "the monitor listens")
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(30)


def value_of(url: str, name: str) -> float | None:
    return next((sample.value for sample in scrape(url) if sample.name == name), None)


def test_a_file_of_kafkas_own_tools_may_be_named_on_the_command_line(kafka: Secured, tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n"
        "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required"
        f' username="{USER}" password="{PLAIN_PASSWORD}";\nssl.ca.location={kafka.ca}\n'
    )
    assert "Plan: " in call("--kafka-config", file, "topics", "plan", "--bootstrap-servers", kafka.servers)


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        (None, "does not answer"),
        ("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=orion\nsasl.password=wrong\n", "verify"),
        (
            "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=orion\nsasl.password=wrong\n"
            "ssl.ca.location={ca}\n",
            "Authentication failed",
        ),
    ],
    ids=["no login", "no CA", "wrong password"],
)
def test_who_is_not_let_in_is_told_why_and_what_to_do(
    kafka: Secured, tmp_path: Path, properties: str | None, reason: str
) -> None:
    file = tmp_path / "client.properties"
    if properties is not None:
        file.write_text(properties.format(ca=kafka.ca))
    shown = call(
        *([] if properties is None else ["--kafka-config", file]), "run", "--bootstrap-servers", kafka.servers, code=2
    )
    assert f"Kafka at {kafka.servers} does not" in shown
    assert reason in shown
    assert "--kafka-config" in shown
    assert "wrong" not in shown.replace("wrong version", "")
