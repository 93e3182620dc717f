"""`orion-beam monitor` on a real Kafka: what it measures, and that it goes on when the broker does not."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.cimpl import NewPartitions
from typer.testing import CliRunner

from orion_beam.cli.main import app
from orion_beam.countries import profiles_of
from orion_beam.kafka.admin import admin_client
from orion_beam.monitoring.monitor import Monitor, MonitorConfig
from orion_beam.monitoring.server import monitor_pages, serving
from orion_beam.runners.local.development import LocalKafka
from tests.integration.harness import Feed, await_until, kafka_in, scrape
from tests.topics import DEAD_LETTERS, FINAL_PARTITIONS, raw_topic

pytestmark = pytest.mark.integration

GROUP = "watched"
TOPIC = raw_topic("FR").name
PATIENCE_S = 600.0
AGE_S = 500

Labels = dict[str, str]


class Watched:
    """A monitor over a broker, asked over HTTP as Prometheus does."""

    def __init__(self, kafka: LocalKafka, url: str) -> None:
        self.kafka = kafka
        self._url = url

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        found = scrape(f"{self._url}/metrics")
        return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples().get((name, frozenset(labels.items())))

    def await_value(self, expected: float, name: str, **labels: str) -> None:
        await_until(lambda: self.value(name, **labels) == expected, PATIENCE_S, f"{name} is {expected}")

    def labels(self, partition: int) -> Labels:
        return {"group": GROUP, "topic": TOPIC, "partition": str(partition), "country": "FR"}

    def lag(self, partition: int) -> float | None:
        return self.value("kafka_consumer_lag", **self.labels(partition))


@contextmanager
def watching(kafka: LocalKafka) -> Iterator[Watched]:
    config = MonitorConfig(kafka.bootstrap_servers, GROUP, profiles_of(["FR", "TN"]), interval_s=0.2)
    with Monitor(config) as monitor, serving("127.0.0.1:0", monitor_pages(monitor)) as url:
        found = Watched(kafka, url)
        found.await_value(1, "orion_kafka_up")
        yield found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A broker for the tests of this file; each has partitions of its own."""
    with kafka_in(tmp_path_factory.mktemp("monitor") / "kafka") as kafka, watching(kafka) as found:
        yield found


def commit(servers: str, partition: int, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": GROUP})
    consumer.commit(offsets=[TopicPartition(TOPIC, partition, offset)], asynchronous=False)
    consumer.close()


def test_lag_is_the_age_of_the_record_at_the_commit_and_goes_when_it_is_processed(watched: Watched) -> None:
    before = watched.value("orion_kafka_arrived_records_total", country="FR") or 0
    servers = watched.kafka.bootstrap_servers
    now_ms = round(time.time() * 1000)
    feed = Feed(servers)
    for record in range(100):
        # One record a second, the first AGE_S old; those of partition 1 are younger.
        for partition, age_s in ((0, AGE_S), (1, AGE_S - 200)):
            timestamp = now_ms - (age_s - record) * 1000
            feed.send(TOPIC, None, b"x", code=None, partition=partition, timestamp=timestamp)
    feed.flush()
    watched.await_value(before + 200, "orion_kafka_arrived_records_total", country="FR")
    assert watched.lag(0) == watched.lag(1) == 100
    for committed in (0, 50, 99):
        looked_from = time.time()
        commit(servers, 0, committed)
        await_until(lambda at=committed: watched.lag(0) == 100 - at, PATIENCE_S, "the commit is seen")
        lag_s = watched.value("orion_kafka_lag_seconds", country="FR")
        assert lag_s is not None
        # It is that of some moment since.
        looked_at = now_ms / 1000 + lag_s - max(AGE_S - committed, AGE_S - 200)
        assert looked_from - 1 <= looked_at <= time.time() + 1
    for partition in (0, 1):
        commit(servers, partition, 100)
    watched.await_value(0, "orion_kafka_lag_seconds", country="FR")
    assert watched.lag(0) == watched.lag(1) == 0
    assert watched.value("orion_kafka_lag_seconds", country="TN") == 0


def test_dead_letters_are_counted_by_their_headers_and_foreign_ones_name_nothing(watched: Watched) -> None:
    producer = Producer({"bootstrap.servers": watched.kafka.bootstrap_servers, "log_level": 0})
    why = {"orion.country": b"TN", "orion.error.stage": b"validate", "orion.error.code": b"invalid_imsi"}
    for headers in (why, why, why | {"orion.error.code": b"208011234567890"}, {}):
        producer.produce(DEAD_LETTERS.name, b"x", b"208011234567890", headers=list(headers.items()))
    assert producer.flush(600) == 0
    labels = {"country": "TN", "stage": "validate", "code": "invalid_imsi"}
    watched.await_value(2, "orion_kafka_errors_total", **labels)
    watched.await_value(2, "orion_kafka_foreign_letters_total")
    assert "208011234567890" not in str(watched.samples())


def test_what_retention_deletes_unprocessed_is_counted(watched: Watched) -> None:
    servers = watched.kafka.bootstrap_servers
    feed = Feed(servers)
    for _ in range(100):
        feed.send(TOPIC, None, b"x", code=None, partition=3)
    feed.flush()
    commit(servers, 3, 10)
    await_until(lambda: watched.lag(3) == 90, PATIENCE_S, "the commit is seen")
    admin = admin_client(servers)
    deleted = admin.delete_records([TopicPartition(TOPIC, 3, 40)])
    assert [answer.result().low_watermark for answer in deleted.values()] == [40]
    watched.await_value(30, "orion_kafka_lost_records_total", country="FR")
    assert watched.lag(3) == 60
    commit(servers, 3, 100)
    await_until(lambda: watched.lag(3) == 0, PATIENCE_S, "the commit is seen")


def test_a_transaction_marker_is_no_record_that_waits(watched: Watched) -> None:
    producer = Producer(
        {"bootstrap.servers": watched.kafka.bootstrap_servers, "log_level": 0, "transactional.id": "redrive"}
    )
    producer.init_transactions(PATIENCE_S)
    for records in (2, 1):
        producer.begin_transaction()
        for _ in range(records):
            producer.produce(TOPIC, b"x", partition=5)
        producer.commit_transaction(PATIENCE_S)
    # Offsets 0 and 1, a marker, offset 3, a marker.
    watched.await_value(5, "kafka_consumer_lag", **watched.labels(5))
    commit(watched.kafka.bootstrap_servers, 5, 2)
    watched.await_value(2, "kafka_consumer_lag", **watched.labels(5))
    # As the job commits it: behind the last record that it has read.
    commit(watched.kafka.bootstrap_servers, 5, 4)
    watched.await_value(0, "kafka_consumer_lag", **watched.labels(5))


def test_partitions_without_a_commit_are_unread_once_others_have_one(watched: Watched) -> None:
    topic, servers = raw_topic("TN").name, watched.kafka.bootstrap_servers
    assert watched.value("orion_kafka_unread_partitions", country="TN") == 0
    consumer = Consumer({"bootstrap.servers": servers, "group.id": GROUP})
    consumer.commit(offsets=[TopicPartition(topic, part, 0) for part in range(FINAL_PARTITIONS)], asynchronous=False)
    consumer.close()
    admin = admin_client(servers)  # its answers end with it
    for done in admin.create_partitions([NewPartitions(topic, FINAL_PARTITIONS + 2)]).values():
        done.result(PATIENCE_S)
    watched.await_value(2, "orion_kafka_unread_partitions", country="TN")


def test_it_outlives_the_broker_and_finds_it_again(kafka: LocalKafka) -> None:
    with watching(kafka) as watched:
        port = int(kafka.bootstrap_servers.rpartition(":")[2])
        kafka.kill()
        watched.await_value(0, "orion_kafka_up")
        assert watched.value("orion_kafka_lag_seconds", country="FR") is None
        with LocalKafka(kafka.data_dir, port):
            watched.await_value(1, "orion_kafka_up")
            assert watched.value("orion_kafka_lag_seconds", country="FR") == 0


def test_top_shows_the_same(watched: Watched) -> None:
    options = ["--bootstrap-servers", watched.kafka.bootstrap_servers, "--countries", "FR", "--interval", "0.2"]
    as_json = CliRunner().invoke(app, ["top", *options, "--json"])
    assert as_json.exit_code == 0, as_json.output
    status = json.loads(as_json.stdout)
    assert status["is_up"]
    assert list(status["countries"]) == ["FR"]
    assert status["countries"]["FR"]["now"]["lag"] >= 0
    assert status["countries"]["FR"]["now"]["jobs"] == 0
    printed = CliRunner().invoke(app, ["top", *options])
    assert "Kafka answers: 1 broker" in printed.stdout
    assert "France" in printed.stdout


@pytest.mark.parametrize("option", ["--once", "--json"])
def test_top_without_a_broker_is_an_error(option: str) -> None:
    command = [
        sys.executable,
        "-m",
        "orion_beam.cli.main",
        "top",
        "--bootstrap-servers",
        "127.0.0.1:1",
        "--interval=0.2",
    ]
    done = subprocess.run([*command, option], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("orion-beam: error: Kafka at 127.0.0.1:1 does not answer (")
