"""`orion-beam doctor` on real Kafka, a real Flink job manager and real workers: each thing that it finds, broken."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from typer.testing import CliRunner

from orion_beam.cli.main import app
from orion_beam.errors import PrerequisiteError
from orion_beam.kafka.admin import admin_client
from orion_beam.runners.doctor.flink_cluster import capacity_checks, check_flink
from orion_beam.runners.local.flink import LocalFlink
from orion_beam.runners.worker_pool.pool import worker_pool
from tests.integration.harness import Feed, await_until, kafka_in
from tests.topics import raw_topic

pytestmark = pytest.mark.integration

PATIENCE_S = 600.0

Checks = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker with some records."""
    with kafka_in(tmp_path_factory.mktemp("doctor") / "kafka") as kafka:
        feed = Feed(kafka.bootstrap_servers)
        for country in ("FR", "MA"):
            feed.send_generated(country, 200)
        feed.flush()
        yield kafka.bootstrap_servers


def doctor(servers: str, *arguments: str) -> tuple[int, Checks]:
    answer = CliRunner().invoke(app, ["doctor", "--bootstrap-servers", servers, "--json", *arguments])
    assert answer.exit_code in (0, 1), (answer.exception, answer.output)
    found = json.loads(answer.stdout)
    assert found["ok"] is (answer.exit_code == 0)
    return answer.exit_code, {check["name"]: check for check in found["checks"]}


def status_of(checks: Checks) -> dict[str, str]:
    return {name: check["status"] for name, check in checks.items()}


def test_all_is_well_with_a_cluster_that_is_as_it_should_be(servers: str) -> None:
    code, checks = doctor(servers, "--countries", "FR,TN")
    assert code == 0
    assert status_of(checks) == dict.fromkeys(checks, "ok"), checks
    assert {"Java", "jars", "versions", "topics", "rights", "unread records", "brokers", "timestamps"} < checks.keys()


def test_a_topic_that_is_not_there_is_named_and_the_rest_left_out(servers: str) -> None:
    admin = admin_client(servers)
    (deleted,) = admin.delete_topics(["cdr.enriched"]).values()
    deleted.result()
    await_until(lambda: "cdr.enriched" not in admin.list_topics(timeout=600).topics, PATIENCE_S, "the topic is gone")
    code, checks = doctor(servers, "--countries", "FR", "--publish", "enriched")
    assert code == 1
    assert status_of(checks)["topics"] == "failed"
    assert "no topic cdr.enriched" in checks["topics"]["found"]
    assert "orion-beam topics apply" in checks["topics"]["fix"]
    assert status_of(checks)["rest of Kafka"] == "skipped"


@pytest.fixture
def guarded_servers(tmp_path: Path) -> Iterator[str]:
    """A broker that knows of rights, and grants them all until somebody says otherwise."""
    rights = {
        "authorizer_class_name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow_everyone_if_no_acl_found": "true",
    }
    with kafka_in(tmp_path / "kafka", **rights) as kafka:
        yield kafka.bootstrap_servers


def test_a_right_that_is_lacking_is_named_and_run_refuses_to_start(guarded_servers: str) -> None:
    servers = guarded_servers
    admin = admin_client(servers)
    topic = raw_topic("SN").name
    only_describe = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        "User:ANONYMOUS",
        "*",
        AclOperation.DESCRIBE,
        AclPermissionType.ALLOW,
    )
    for done in admin.create_acls([only_describe]).values():
        done.result()

    def rights() -> str:
        return status_of(doctor(servers, "--countries", "SN")[1])["rights"]

    await_until(lambda: rights() == "failed", PATIENCE_S, "it is denied")
    code, checks = doctor(servers, "--countries", "SN,FR")
    assert code == 1
    assert checks["rights"]["found"] == f"this user may not READ topic {topic}"
    refused = CliRunner().invoke(app, ["run", "--bootstrap-servers", servers, "--countries", "SN,FR"])
    assert isinstance(refused.exception, PrerequisiteError)
    assert f"READ topic {topic}" in str(refused.exception)


def test_records_that_retention_has_taken_from_a_group_are_counted(servers: str) -> None:
    topic = raw_topic("FR").name
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "late", "log_level": 0})
    consumer.commit(offsets=[TopicPartition(topic, partition, 0) for partition in range(12)], asynchronous=False)
    consumer.close()
    assert status_of(doctor(servers, "--countries", "FR", "--group-id", "late")[1])["unread records"] == "ok"

    feed = Feed(servers)
    for partition in (3, 3, 3, 3, 3, 4, 4):
        feed.send(topic, b"k", b"{}", code="malformed_payload", partition=partition)
    feed.flush()
    admin = admin_client(servers)  # its answers end with it
    for removed in admin.delete_records([TopicPartition(topic, 3, 5), TopicPartition(topic, 4, 2)]).values():
        removed.result()
    code, checks = doctor(servers, "--countries", "FR", "--group-id", "late")
    assert code == 1
    assert checks["unread records"]["found"].startswith(
        "7 offsets are gone that group late has not read: cdr.raw.FR[3] (5;"
    )


def test_offsets_beyond_the_end_are_told_from_a_topic_made_anew(servers: str) -> None:
    topic = raw_topic("MA").name
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "ahead", "log_level": 0})
    consumer.commit(offsets=[TopicPartition(topic, 0, 1_000_000)], asynchronous=False)
    consumer.close()
    code, checks = doctor(servers, "--countries", "MA", "--group-id", "ahead")
    assert code == 1
    assert "beyond the end of cdr.raw.MA[0]" in checks["unread records"]["found"]


def test_a_retention_shorter_than_the_replay_window_is_named(servers: str) -> None:
    code, checks = doctor(servers, "--countries", "FR", "--replay-window", "8d")
    assert code == 1
    assert "cdr.raw.FR keeps 7d, and a replay must reach back 8d" in checks["topic settings"]["found"]
    assert status_of(doctor(servers, "--countries", "FR", "--replay-window", "7d")[1])["topic settings"] == "ok"


def test_a_clock_that_is_ahead_shows_in_the_timestamps(servers: str) -> None:
    feed = Feed(servers)
    in_half_an_hour = round(time.time() * 1_000) + 1_800_000
    feed.send(raw_topic("MA").name, b"k", b"{}", code="malformed_payload", partition=5, timestamp=in_half_an_hour)
    feed.flush()
    code, checks = doctor(servers, "--countries", "MA")
    assert code == 0
    assert status_of(checks)["timestamps"] == "warning"
    assert checks["timestamps"]["found"].startswith("cdr.raw.MA[5] has a Kafka timestamp ")


def test_a_worker_says_what_it_sees_from_where_it_runs(
    servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    monkeypatch.setenv("ORION_WORKERS_TOKEN_FILE", str(token))
    with worker_pool(token_file=token) as address:
        beam = ["--", "--environment_type=EXTERNAL", f"--environment_config={address}"]
        code, checks = doctor(servers, "--countries", "FR", "--from-workers", *beam)
    assert code == 0
    seen = {name: check for name, check in checks.items() if name.endswith("workers")}
    assert status_of(seen) == dict.fromkeys(["versions of workers", "brokers from workers", "clock of workers"], "ok")
    assert checks["brokers from workers"]["found"] == "1, reached by a worker at their advertised addresses"
    assert "has the versions of this machine" in checks["worker pool"]["found"]


def test_a_flink_cluster_is_judged_by_its_rest_api(tmp_path: Path) -> None:
    with LocalFlink(tmp_path / "flink", slots=1) as cluster:
        flink = check_flink(cluster.address)
        assert flink.status == "ok"
        assert flink.found.startswith("1.19.")
        slots, *_ = capacity_checks(cluster.address, parallelism=1)
        assert (slots.status, slots.found) == ("ok", "1 of 1 slots free on 1 task managers, 1 needed")
        slots, metaspace, storage, availability, restarts = capacity_checks(cluster.address, parallelism=2)
        assert (metaspace.name, metaspace.status) == ("metaspace", "ok")
        assert (slots.status, slots.found) == ("failed", "1 of 1 slots free on 1 task managers, 2 needed")
        assert storage.status == "warning"
        assert "set state.checkpoints.dir" in storage.fix
        assert availability.status == "warning"
        assert "its jobs end" in availability.found
        assert (restarts.status, restarts.found) == ("ok", "for ever")
        *_, savepoints = capacity_checks(cluster.address, parallelism=2, savepoints="s3://bucket/savepoints")
        assert savepoints.status == "warning"
        assert "the job file says s3://bucket/savepoints" in savepoints.found
    assert check_flink(cluster.address).status == "failed"
    assert "does not answer as Flink's REST API does" in check_flink(cluster.address).found
