"""`orion-beam topics` on a cluster of three brokers: from nothing to the production profile, drift, and danger."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner, Result

from orion_beam.cli.topics import app
from orion_beam.defaults import SHIPPED_CATALOGUE
from orion_beam.kafka.admin import admin_client
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.topics.apply import apply_changes
from orion_beam.topics.plan import ChangeKind, TopicChange
from tests.integration.harness import await_until
from tests.topics import FINAL, FINAL_PARTITIONS

pytestmark = pytest.mark.integration

TIMEOUT_S = 600.0
OLD_MS = 1_000_000_000_000  # 2001


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    kafka = LocalKafka(tmp_path_factory.mktemp("topics") / "kafka", brokers=3).start()
    try:
        yield kafka
    finally:
        kafka.kill()


class Topics:
    """The command against one cluster."""

    def __init__(self, servers: str) -> None:
        self.servers = servers

    def __call__(self, *arguments: str, typed: str = "") -> Result:
        command, *options = arguments
        return CliRunner().invoke(app, [command, "--bootstrap-servers", self.servers, *options], input=typed)

    def drift(self, setting: str, value: str) -> None:
        assert apply_changes(self.servers, [], [TopicChange(ChangeKind.CHANGE, FINAL.name, setting, "", value)]) == []
        self.await_plan(f"{FINAL.name}: {setting} {value} ->")

    def await_plan(self, text: str) -> None:
        """Each call may ask another broker, and some learn of a change a moment later."""
        await_until(lambda: text in self("plan").stdout, TIMEOUT_S, text)

    def await_agreement(self) -> None:
        self.await_verified(0)

    def await_verified(self, exit_code: int) -> Result:
        answers: list[Result] = []

        def is_so() -> bool:
            answers.append(self("verify"))
            return answers[-1].exit_code == exit_code

        await_until(is_so, TIMEOUT_S, f"verify ends with exit code {exit_code}")
        return answers[-1]


@pytest.fixture
def topics(cluster: LocalKafka) -> Topics:
    """The command; the cluster agrees with the catalogue."""
    call = Topics(cluster.bootstrap_servers)
    call("apply", "--yes")
    call.await_agreement()
    return call


def test_a_new_cluster_gets_all_topics_and_drift_is_found_and_mended(cluster: LocalKafka) -> None:
    topics = Topics(cluster.bootstrap_servers)
    planned = topics("plan")
    assert planned.exit_code == 0
    assert "+ cdr.final: 12 partitions, replication 3" in planned.stdout
    assert "Plan: 11 to create, 0 to change, 0 dangerous, 0 by hand." in planned.stdout
    assert topics("verify").exit_code == 1

    declined = topics("apply", typed="n\n")
    assert declined.exit_code == 1
    assert len(json.loads(topics("plan", "--json").stdout)["create"]) == 11

    applied = topics("apply", typed="y\n")
    assert applied.exit_code == 0, applied.output
    assert "The cluster agrees with the catalogue." in applied.stdout
    topics.await_agreement()
    assert json.loads(topics("verify", "--json").stdout)["ok"]
    final = admin_client(topics.servers).list_topics(FINAL.name, timeout=600).topics[FINAL.name]
    assert [len(partition.replicas) for partition in final.partitions.values()] == [3] * FINAL_PARTITIONS

    topics.drift("min.insync.replicas", "1")
    drifted = topics.await_verified(1)
    assert "~ cdr.final: min.insync.replicas 1 -> 2" in drifted.stdout
    assert topics("apply", "--yes").exit_code == 0
    topics.await_agreement()


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_topic_that_could_not_be_written_is_warned_of_before_it_is_changed(
    topics: Topics, tmp_path: Path, command: str
) -> None:
    own = tmp_path / "topics.yaml"
    # Three replicas that all must be in sync: one broker down, and writing stops.
    own.write_text("topics: {final: {settings: {min.insync.replicas: 3}}}\n")
    shown = topics(command, "--catalogue", str(own), typed="n\n").stdout
    assert "warning: cdr.final: min.insync.replicas and replication are both 3" in " ".join(shown.split())


def test_a_window_that_replays_cannot_reach_fails_the_check(topics: Topics) -> None:
    verified = topics("verify", "--replay-window", "8d", "--countries", "FR")
    assert verified.exit_code == 1
    assert "cdr.raw.FR: keeps 7d, and a replay must reach back 8d" in verified.stdout


def test_records_are_deleted_by_a_typed_name_only(topics: Topics) -> None:
    topics.drift("retention.ms", "-1")
    producer = Producer({"bootstrap.servers": topics.servers, "log_level": 0})
    for _ in range(3):
        producer.produce(FINAL.name, b"old", timestamp=OLD_MS, partition=0)
    assert producer.flush(600) == 0

    planned = json.loads(topics("plan", "--json").stdout)
    assert planned["change"] == [
        {
            "kind": "dangerous", "where": "cdr.final", "setting": "retention.ms", "before": "-1", "after": "86400000",
            "reason": "deletes 3 records that are older than 1d",
        }
    ]  # fmt: skip
    for refused in (
        topics("apply", "--yes"),
        topics("apply", "--yes", "--allow-destructive", typed="cdr.dlq\n"),
        topics("apply", "--yes", "--allow-destructive", typed="\n"),
    ):
        assert refused.exit_code == 1
        assert "! cdr.final: retention.ms -1 -> 86400000  # deletes 3 records" in refused.stdout
    assert json.loads(topics("plan", "--json").stdout) == planned

    allowed = topics("apply", "--yes", "--allow-destructive", typed=f"{FINAL.name}\n")
    assert allowed.exit_code == 0, allowed.output
    topics.await_agreement()


def test_partitions_are_added_by_a_typed_name_and_never_taken_away(topics: Topics, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    other = "others:\n- {name: mine, partitions: %d, retention: 1d, key: none}"
    shipped = SHIPPED_CATALOGUE.read_text()

    mine.write_text(shipped.replace("others: []", other % 2))
    assert topics("apply", "--yes", "--catalogue", str(mine)).exit_code == 0
    topics.await_plan("? mine  # not in the catalogue")

    mine.write_text(shipped.replace("others: []", other % 3))
    refused = topics("apply", "--yes", "--catalogue", str(mine))
    assert refused.exit_code == 1
    assert "! mine: partitions 2 -> 3  # keys move to other partitions" in refused.stdout
    grown = topics("apply", "--yes", "--catalogue", str(mine), "--allow-destructive", "--confirm", "mine")
    assert grown.exit_code == 0, grown.output

    mine.write_text(shipped.replace("others: []", other % 1))
    shrunk = topics("apply", "--yes", "--catalogue", str(mine), "--allow-destructive", "--confirm", "mine")
    assert shrunk.exit_code == 1
    assert "x mine: partitions 3 -> 1  # Kafka takes no partitions away" in shrunk.stdout


def test_what_the_brokers_refuse_is_said_and_stops_nothing_else(topics: Topics) -> None:
    refused = apply_changes(
        topics.servers,
        [],
        [
            TopicChange(ChangeKind.CHANGE, "cdr.dlq", "retention.ms", "", "many"),
            TopicChange(ChangeKind.CHANGE, "cdr.validated", "retention.ms", "", "1000"),
        ],
    )
    assert len(refused) == 1
    assert refused[0].startswith("topic cdr.dlq: its settings cannot be changed: ")
    topics.await_plan("~ cdr.validated: retention.ms 1000 -> 259200000")


def test_brokers_that_differ_are_named(topics: Topics) -> None:
    planned = topics("verify", "--profile", "development")
    assert planned.exit_code == 1
    assert "x broker 2: num.io.threads 16 -> 4  # set it in the broker's properties" in planned.stdout
