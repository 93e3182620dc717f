"""A cluster that wants a login and has ACLs: commands log in by one file, and need the rights of their role."""

import base64
import json
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from apache_beam.internal import pickler
from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]  # re-exported implicitly

from orion_beam.access.acls import EVERYBODY, Acl, apply_acls, await_acls, plan_acls, wanted_acls
from orion_beam.access.roles import Resource, Right, kind_name, resource_names, rights_of
from orion_beam.defaults import GROUP, Role
from orion_beam.errors import UserError
from orion_beam.io.kafka_sink import DeliveryError
from orion_beam.jobs.events import JobAction, JobEvent
from orion_beam.jobs.history import read_history, record_event, require_history
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.kafka import login as login_module
from orion_beam.kafka.admin import admin_client, topic_names
from orion_beam.kafka.offset_ranges import offset_ranges, read_ranges
from orion_beam.monitoring.flink_rest import FlinkRest
from orion_beam.runners.jars.build import orion_home
from orion_beam.runners.local.broker import HOST, free_ports, is_taken
from orion_beam.runners.local.flink import LocalFlink
from orion_beam.topics.apply import create_topics
from orion_beam.topics.cluster_state import describe_cluster
from tests.command import Answer, Command
from tests.integration.harness import (
    FREQUENT_CHECKPOINTS,
    START_TIMEOUT_S,
    StartJob,
    await_until,
    committed_offsets,
    records_on,
    scrape,
)
from tests.integration.planted import command_lines_with, files_with, is_in
from tests.integration.secured import CLIENT_SECRET, PASSWORD, PLAIN_PASSWORD, USER, Secured, secured_kafka
from tests.integration.test_cluster import workers
from tests.integration.test_producer_errors import write, writing

pytestmark = pytest.mark.integration

CHANGED = "cdr.validated"
NAMES = resource_names(["FR"], GROUP, [], None)
ONE_TOPIC = NAMES | {Resource.ALL_TOPICS: (CHANGED,), Resource.WITH_NUMBERS: (CHANGED,)}

RECORDS = 2_000
ALL = ("--from", "2020-01-01T00:00Z", "--to", "2100-01-01T00:00Z")


LogIn = Callable[[str], None]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker with a user of each role, who has the ACLs of the role."""
    with secured_kafka(tmp_path_factory.mktemp("secured") / "kafka") as secured:
        file = tmp_path_factory.mktemp("login") / "client.properties"
        file.write_text(secured.login(USER))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(CONFIG_VARIABLE, str(file))
            grant(secured.servers, wanted_acls({role: [f"User:{role}"] for role in Role}, NAMES))
        yield secured


@pytest.fixture
def log_in(kafka: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogIn:
    """A function that makes this process, and all that it starts, log in as a user, by a file."""

    def log_in(user: str) -> None:
        file = tmp_path / f"{user}.properties"
        # The CA is beside the file.
        file.write_text("# of a test\n" + kafka.login(user).replace(str(kafka.ca), kafka.ca.name))
        (tmp_path / kafka.ca.name).write_bytes(kafka.ca.read_bytes())
        monkeypatch.setenv(CONFIG_VARIABLE, str(file))

    return log_in


def grant(servers: str, acls: Sequence[Acl]) -> None:
    assert apply_acls(servers, acls, []) == []
    assert not await_acls(partial(plan_acls, servers, acls), acls, []).missing


def take_away(servers: str, acl: Acl) -> None:
    assert apply_acls(servers, [], [acl]) == []
    await_until(lambda: acl in plan_acls(servers, [acl]).missing, START_TIMEOUT_S, "the ACL is gone")


def call(*arguments: object, code: int = 0) -> str:
    """Run a command, and return what it prints; never a password."""
    command = [sys.executable, "-m", "orion_beam.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    printed = done.stdout + done.stderr
    assert done.returncode == code, printed
    assert not any(secret in printed for secret in (PASSWORD, PLAIN_PASSWORD, CLIENT_SECRET))
    return printed if code else done.stdout


def test_every_command_logs_in_by_the_file_that_the_environment_names_and_needs_the_acls_of_its_role(
    kafka: Secured, tmp_path: Path, start_job: StartJob, log_in: LogIn
) -> None:
    servers = ["--bootstrap-servers", kafka.servers]
    of_france = [*servers, "--countries", "FR"]
    log_in(Role.TOPICS)
    call("topics", "apply", *of_france, "--profile", "development", "--yes")
    log_in(USER)
    call("generate", *of_france, "--count", RECORDS, "--fault-rate", "0.05")
    log_in(Role.STREAM)
    checks = json.loads(call("doctor", *of_france, "--json"))["checks"]
    assert {"topics", "rights", "brokers"} <= {check["name"] for check in checks if check["status"] == "ok"}

    job = start_job(kafka.servers, "--countries", "FR", beam=[FREQUENT_CHECKPOINTS])
    out = ("cdr.final", "cdr.dlq")
    job.await_until(lambda: records_on(kafka.servers, *out) >= RECORDS, START_TIMEOUT_S, "all are out")
    job.send(signal.SIGINT)
    assert job.exit_code() == 130
    assert PASSWORD not in job.log

    log_in(Role.AUDIT)
    audit = json.loads(call("audit", *of_france, "--json"))
    assert (audit["records"], audit["missing"]) == (RECORDS, 0)
    call("trace", *servers, "--topic", "cdr.raw.FR", "--partition", "0", "--offset", "0")
    log_in(Role.PRIVACY)
    (tmp_path / "imsi.txt").write_text("208019999999999\n")
    searched = json.loads(call("forget", *servers, "--imsi-file", tmp_path / "imsi.txt", "--json"))["searched"]
    assert searched.keys() == {"cdr.raw.FR", "cdr.validated", "cdr.normalized", "cdr.enriched", *out}
    log_in(Role.DESK)
    rejected = json.loads(call("dlq", "stats", *servers, "--json"))["letters"]
    assert rejected == audit["dead_letters"]
    log_in(Role.REPLAY)
    call("replay", *of_france, *ALL, "--yes", "--output", tmp_path / "out")
    files = list((tmp_path / "out").rglob("*.parquet"))
    assert sum(pq.read_metadata(file).num_rows for file in files if "cdr.final" in str(file)) == RECORDS - rejected
    log_in(Role.DESK)
    sent = json.loads(call("dlq", "redrive", *servers, "--execute", "--no-validate", "--json"))
    assert sent["fates"] == {"sent": rejected}
    log_in(Role.MONITOR)
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
        process.wait(600)


def value_of(url: str, name: str) -> float | None:
    return next((sample.value for sample in scrape(url) if sample.name == name), None)


@pytest.mark.deep
def test_no_place_that_outlives_a_login_holds_its_secret(
    kafka: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Search the jar, the job and all that Flink tells and keeps of it, logs, temporary files, and command lines."""
    for packed in (zlib.compress(PLAIN_PASSWORD.encode()), pickler.dumps({"x": [PLAIN_PASSWORD]})):
        assert is_in(base64.b64encode(packed), PLAIN_PASSWORD)  # the search finds what it searches for
    (tmp_path / "login").mkdir()
    file = tmp_path / "login" / "client.properties"
    file.write_text(
        f"security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username={USER}\nsasl.password={PLAIN_PASSWORD}\n"
        f"ssl.ca.location={kafka.ca}\n"
    )
    seen, home, temporary = (tmp_path / name for name in ("seen", "home", "temporary"))
    for directory in (seen, temporary):
        directory.mkdir()
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    monkeypatch.setenv("TMPDIR", str(temporary))
    servers = ["--bootstrap-servers", kafka.servers, "--countries", "FR"]
    call("topics", "apply", *servers, "--profile", "development", "--yes")
    call("generate", *servers, "--count", 100)
    (metrics_port,) = free_ports(1)
    with (
        LocalFlink(seen / "flink", 1) as flink,
        workers(seen / "workers.log", metrics_port) as pool,
    ):
        beam = ["--", f"--flink_master={flink.address}", "--environment_type=EXTERNAL"]
        beam += [f"--environment_config={pool}", "--parallelism=1", FREQUENT_CHECKPOINTS]
        submit = ["submit", *servers, "--group-id", "planted"]
        call(*submit, "--to-jar", seen / "job.jar", *beam[:1], *beam[2:])
        written = records_on(kafka.servers, "cdr.final", "cdr.dlq")
        (job,) = json.loads(call(*submit, "--json", *beam))["jobs"]
        await_until(
            lambda: records_on(kafka.servers, "cdr.final", "cdr.dlq") >= written + 100, START_TIMEOUT_S, "all are out"
        )
        (seen / "flink-says.json").write_text(json.dumps([*all_answers(flink.rest, job["id"])]))
        call("jobs", "logs", job["id"], "--flink", flink.address)
        call("replay", *servers, *ALL, "--yes", "--output", seen / "out")
        assert command_lines_with(PLAIN_PASSWORD) == []
        ends = offset_ranges(kafka.servers, ["orion.jobs"])
        history = [batch.serialize().to_pybytes() for batch in read_ranges(kafka.servers, ends)]
        assert history
        assert not any(is_in(batch, PLAIN_PASSWORD) for batch in history)
        flink.rest.cancel(job["id"])
        assert files_with(PLAIN_PASSWORD, [seen, temporary, orion_home() / "kept"]) == []


def all_answers(rest: FlinkRest, job_id: str) -> Iterator[object]:
    """Yield what Flink's REST API tells of a job, and of its cluster."""
    paths = ["overview", "config", "jars", "jobs/overview", "jobmanager/config", "jobmanager/environment"]
    of_job = ("", "/config", "/plan", "/exceptions", "/checkpoints", "/checkpoints/config", "/accumulators")
    paths += [f"jobs/{job_id}{path}" for path in of_job]
    for vertex in rest.get(f"jobs/{job_id}")["vertices"]:
        of_vertex = ("", "/accumulators", "/subtasks/accumulators", "/taskmanagers", "/metrics")
        paths += [f"jobs/{job_id}/vertices/{vertex['id']}{path}" for path in of_vertex]
    for manager in rest.get("taskmanagers")["taskmanagers"]:
        paths += [f"taskmanagers/{manager['id']}{path}" for path in ("", "/logs", "/thread-dump", "/metrics")]
    return map(rest.get, paths)


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


def test_tokens_and_certificates_of_others_are_refused(
    kafka: Secured, orion_beam: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "client.properties"
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    without = f"security.protocol=SSL\nssl.ca.location={kafka.ca}\n"
    for servers, login in ((kafka.servers, kafka.token_login("guessed")), (kafka.mutual, without)):
        file.write_text(login)
        login_module._read.cache_clear()
        refused = orion_beam("run", "--bootstrap-servers", servers)
        assert refused.code == 2
        assert f"Kafka at {servers} does not" in refused.err.splitlines()[-1]
        assert "guessed" not in refused.err


@pytest.mark.parametrize("kind", ["token", pytest.param("certificate", marks=pytest.mark.deep)])
def test_a_job_logs_in_by_a_token_or_a_certificate(
    kafka: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_job: StartJob, kind: str
) -> None:
    servers, login = {
        "token": (kafka.servers, kafka.token_login()),
        "certificate": (kafka.mutual, kafka.certificate_login()),
    }[kind]
    file = tmp_path / "client.properties"
    file.write_text(login)
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    call("topics", "apply", "--bootstrap-servers", servers, "--countries", "FR", "--profile", "development", "--yes")
    call("generate", "--bootstrap-servers", servers, "--countries", "FR", "--count", 100)
    written = records_on(servers, "cdr.final", "cdr.dlq")
    job = start_job(servers, "--countries", "FR", "--group-id", kind, beam=[FREQUENT_CHECKPOINTS])
    job.await_until(
        lambda: records_on(servers, "cdr.final", "cdr.dlq") >= written + 100, START_TIMEOUT_S, "all are out"
    )
    job.send(signal.SIGINT)
    assert job.exit_code() == 130
    assert CLIENT_SECRET not in job.log


def test_a_plan_of_acls_says_what_is_missing_and_what_is_too_much(
    kafka: Secured, log_in: LogIn, orion_beam: Command
) -> None:
    log_in(USER)
    options = ("--bootstrap-servers", kafka.servers, "--countries", "FR", "--principal", f"desk=User:{Role.DESK}")
    needed = Acl(f"User:{Role.DESK}", "topic", "cdr.raw.FR", "WRITE")
    wider = Acl(f"User:{Role.DESK}", "topic", "cdr.", "READ", "PREFIXED")
    of_everybody = Acl(EVERYBODY, "topic", "other", "READ", "LITERAL", "DENY", "10.0.0.1")
    assert orion_beam("acls", "verify", *options).code == 0
    assert apply_acls(kafka.servers, [wider, of_everybody], [needed]) == []
    lines = [f"+ {needed}", f"- {wider}", f"? {of_everybody}"]
    await_until(
        lambda: all(line in orion_beam("acls", "plan", *options).out for line in lines), START_TIMEOUT_S, "it is seen"
    )
    verified = orion_beam("acls", "verify", *options, "--json")
    assert verified.code == 1
    assert json.loads(verified.out) == {
        "ok": False,
        "plan": {"add": [needed._asdict()], "too_much": [wider._asdict()], "everybody": [of_everybody._asdict()]},
    }
    added = orion_beam("acls", "apply", *options, "--yes")
    assert (added.code, "Plan: 0 to add, 1 too much." in added.out) == (1, True)
    assert orion_beam("acls", "apply", *options, "--yes", "--revoke").code == 0
    apply_acls(kafka.servers, [], [of_everybody])


def test_who_may_not_see_or_change_acls_is_told_which_right_is_missing(
    kafka: Secured, log_in: LogIn, orion_beam: Command
) -> None:
    log_in(Role.DESK)
    options = ("--bootstrap-servers", kafka.servers, "--principal", "desk=User:desk")
    answer = orion_beam("acls", "plan", *options)
    assert (answer.code, answer.out) == (2, "")
    assert "this user may not see ACLs: log in as one who has DESCRIBE on the cluster" in answer.err
    refused = apply_acls(kafka.servers, [Acl("User:desk", "topic", "x", "READ")], [])
    assert "this user may not change ACLs: log in as one who has ALTER on the cluster" in refused[0]


REFUSED_READ = r"cdr\.raw\.FR is not read, and tried again: Not authorized"


COMMANDS: Mapping[Role, tuple[object, ...]] = {
    Role.STREAM: ("doctor", "--countries", "FR", "--json"),
    Role.REPLAY: ("replay", "--countries", "FR", *ALL, "--yes"),
    Role.DESK: ("dlq", "redrive", "--no-validate", "--execute"),
    Role.MONITOR: ("top", "--once", "--countries", "FR", "--interval", "0.2"),
    Role.AUDIT: ("audit", "--countries", "FR"),
    Role.PRIVACY: ("forget",),
    Role.TOPICS: ("topics", "apply", "--countries", "FR", "--profile", "development", "--yes"),
}
"""A command of each role."""


@pytest.mark.parametrize(
    ("role", "right"),
    [pytest.param(role, right, id=f"{role} without {right}") for role in Role for right in rights_of(role, ONE_TOPIC)],
)
def test_a_role_without_one_of_its_rights_is_told_which(
    kafka: Secured, log_in: LogIn, orion_beam: Command, tmp_path: Path, role: Role, right: Right
) -> None:
    log_in(USER)
    create_topics(kafka.servers, ["FR"])
    command = [*COMMANDS.get(role, ()), "--bootstrap-servers", kafka.servers]
    if role is Role.PRIVACY:
        (tmp_path / "imsi.txt").write_text("208019999999999\n")
        command += ["--imsi-file", tmp_path / "imsi.txt"]
    if role is Role.TOPICS:
        more = describe_cluster(kafka.servers, [CHANGED]).topics[CHANGED].partitions + 1
        changes = tmp_path / "topics.yaml"
        changes.write_text(f"topics: {{validated: {{partitions: {more}}}}}\n")
        command += ["--catalogue", changes, "--allow-destructive", "--confirm", CHANGED]
    if right.operation is AclOperation.CREATE:
        delete_topic(kafka.servers, right.name)
    acl = Acl(f"User:{role}", kind_name(right.kind), right.name, right.operation.name)
    take_away(kafka.servers, acl)
    log_in(role)
    try:
        refused = history(kafka.servers) if role is Role.JOBS else orion_beam(*command)
    finally:
        log_in(USER)
        grant(kafka.servers, [acl])
    told = refused.out + refused.err
    assert right.name in told
    assert re.search(f"may not .*{re.escape(str(right))}|not let this user see|[Aa]uthorization failed", told)
    # Figures that may be shown are shown.
    assert refused.code in ((0, 2) if role is Role.MONITOR else (1, 2))


def test_a_job_that_loses_the_right_to_write_fails_its_bundle_and_goes_on_when_it_has_it_again(
    kafka: Secured, log_in: LogIn
) -> None:
    topic = "cdr.final"
    log_in(USER)
    create_topics(kafka.servers, ["FR"])
    before = records_on(kafka.servers, topic)
    acl = Acl(f"User:{Role.STREAM}", "topic", topic, "WRITE")
    log_in(Role.STREAM)
    with writing(kafka.servers, topic) as writer, writing(kafka.servers, topic) as again:
        log_in(USER)
        write(writer, b"before")
        take_away(kafka.servers, acl)
        try:
            with pytest.raises(DeliveryError, match="delivery failed: .*authorization failed; topic cdr.final"):
                write(writer, b"refused")
        finally:
            grant(kafka.servers, [acl])
        write(again, b"after")
    assert records_on(kafka.servers, topic) == before + 2


def test_a_job_that_loses_the_right_to_read_says_so_in_one_line_and_goes_on_when_it_has_it_again(
    kafka: Secured, log_in: LogIn, start_job: StartJob
) -> None:
    topic, other = "cdr.raw.FR", "cdr.raw.TN"
    acl, other_acl = (Acl(f"User:{Role.STREAM}", "topic", name, "READ") for name in (topic, other))
    log_in(USER)
    create_topics(kafka.servers, ["FR", "TN"])
    grant(kafka.servers, [other_acl])
    log_in(Role.STREAM)
    job = start_job(kafka.servers, "--countries", "FR,TN", beam=[FREQUENT_CHECKPOINTS])
    log_in(USER)

    def send() -> None:
        call("generate", "--bootstrap-servers", kafka.servers, "--countries", "FR,TN", "--count", 100)

    def is_done(name: str) -> bool:
        return sum(committed_offsets(kafka.servers, GROUP, name).values()) == records_on(kafka.servers, name)

    def await_done(*names: str) -> None:
        job.await_until(lambda: all(map(is_done, names)), START_TIMEOUT_S, f"{names} are read")

    send()
    await_done(topic, other)
    began = time.monotonic()
    take_away(kafka.servers, acl)
    try:
        send()
        job.await_until(lambda: re.search(REFUSED_READ, job.log), START_TIMEOUT_S, "the refusal is told")
        await_done(other)
        assert not is_done(topic)
        minutes = 1 + (time.monotonic() - began) / 60
    finally:
        grant(kafka.servers, [acl])
    await_done(topic, other)
    take_away(kafka.servers, other_acl)
    # Two subtasks read the topic.
    assert len(re.findall(REFUSED_READ, job.log)) <= 2 * (minutes + 1)
    assert "is not held" not in job.log, "it keeps its lease"
    assert "Traceback" not in job.log
    assert "refuses" not in job.log, "the line a minute needs no other rights than the job"
    job.send(signal.SIGINT)
    assert job.exit_code() == 130


def history(servers: str) -> Answer:
    """Write to the history of jobs and read it, which is a part of each command that changes a job."""
    event = JobEvent(action=JobAction.STOPPED, job_id="0", name="orion", cluster="flink:8081")
    try:
        require_history(servers)
        record_event(servers, event)
        read_history(servers)
    except UserError as error:
        return Answer(2, "", str(error))
    return Answer(0, "", "")


def delete_topic(servers: str, topic: str) -> None:
    admin = admin_client(servers)
    admin.delete_topics([topic])[topic].result(START_TIMEOUT_S)
    await_until(lambda: topic not in topic_names(servers), START_TIMEOUT_S, "the topic is gone")
