"""Alerts fired for real, by the Prometheus of `orion-beam local up --monitoring`: each condition is caused and mended.

Those of Flink are fired in test_cluster.py, by a job on a cluster.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from orion_beam.kafka.admin import admin_client
from orion_beam.runners.local.broker import free_ports
from orion_beam.runners.worker_pool.exposition import worker_exposition
from tests.debian import require_program
from tests.integration.harness import Feed, await_until, limit_messages
from tests.integration.local import Local, limit_options, local_in
from tests.integration.prometheus import PATIENCE_S, Alert, Prometheus
from tests.topics import DEAD_LETTERS, FINAL, raw_topic

pytestmark = pytest.mark.integration

GROUP = "orion-beam"
RETENTION_S = 7 * 86_400
OLD_S = 100
RECORDS = 100
MOST_FILLED_BYTES = 16 << 30


@dataclass(frozen=True)
class Stack(Prometheus):
    """What the command has brought up, with alerts that are as quick as a test needs them."""

    local: Local
    servers: str
    data_dir: Path
    filled_bytes: int
    broker: int
    workers_port: int

    def commit(self, country: str, offset: int) -> None:
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": GROUP})
        consumer.commit(offsets=[TopicPartition(raw_topic(country).name, 0, offset)], asynchronous=False)
        consumer.close()

    def reject(self, country: str, stage: str, code: str) -> None:
        producer = Producer({"bootstrap.servers": self.servers, "log_level": 0})
        why = {"orion.country": country, "orion.error.stage": stage, "orion.error.code": code}
        producer.produce(DEAD_LETTERS.name, b"x", headers=[(name, text.encode()) for name, text in why.items()])
        assert producer.flush(600) == 0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    require_program("prometheus", package="prometheus")
    home = tmp_path_factory.mktemp("alerts")
    disk = os.statvfs(home)
    used = 1 - disk.f_bavail / (disk.f_blocks - disk.f_bfree + disk.f_bavail)
    # Other tests use the same disk: half of what this one fills is more than they take or free in the meantime.
    filled_bytes = min(MOST_FILLED_BYTES, disk.f_frsize * disk.f_bavail // 2)
    step = filled_bytes / (disk.f_frsize * disk.f_blocks)
    limits = limit_options(
        interval="1s", hold="0s", outage="0s", window="5s", memory="20s", silence="4s",
        lag_s=10, standstill_s=4, data_loss_s=RETENTION_S - OLD_S / 2, disk_ratio=used + step / 2,
    )  # fmt: skip
    (workers_port,) = free_ports(1)
    with local_in(home) as local:
        up = local.up(["FR", "TN", "MA", "SN"], "--monitoring", f"--workers-port={workers_port}", *limits)
        (broker,) = up["brokers"]
        data_dir = Path(up["data_dir"])
        found = Stack(
            up["prometheus"], local, up["bootstrap_servers"], data_dir, filled_bytes, broker["pid"], workers_port
        )
        found.await_history()
        yield found


def test_what_records_can_cause_fires_and_clears(watched: Stack) -> None:
    feed = Feed(watched.servers)
    old_ms = round((time.time() - OLD_S) * 1000)
    for country, timestamp in (("FR", old_ms), ("TN", 0), ("MA", 0)):
        for _ in range(RECORDS):
            feed.send(raw_topic(country).name, None, b"x", code=None, partition=0, timestamp=timestamp)
    feed.flush()
    watched.commit("FR", 1)
    # TN processes all, rejects of a kind that was not there, and has a bug; MA loses 40 of the 90 that wait.
    watched.commit("TN", RECORDS)
    for stage, code in (("decode", "malformed_payload"), ("validate", "invalid_imsi"), ("enrich", "internal_error")):
        watched.reject("TN", stage, code)
    watched.commit("MA", 10)
    await_until(
        lambda: watched.value('sum(kafka_consumer_lag{country="MA"})') == RECORDS - 10, PATIENCE_S, "the commit is seen"
    )
    admin = admin_client(watched.servers)
    deleted = admin.delete_records([TopicPartition(raw_topic("MA").name, 0, 50)])
    assert [answer.result(600).low_watermark for answer in deleted.values()] == [50]

    rejects = [("OrionErrorRate", "TN"), ("OrionNewDeadLetters", "TN"), ("OrionInternalError", "TN")]
    waiting = [("OrionLag", "FR"), ("OrionDataLossNear", "FR"), ("OrionJobStuck", "FR"), ("OrionDataLost", "MA")]
    seen: set[Alert] = set()

    def all_fired() -> bool:
        seen.update(watched.firing())
        return seen >= {*rejects, *waiting, ("OrionNoTraffic", "TN")}

    await_until(all_fired, PATIENCE_S, "each has fired")
    assert not {alert for alert in seen if alert[1] == "SN"}

    for country in ("FR", "MA"):
        watched.commit(country, RECORDS)
    watched.await_clear(*rejects, *waiting, ("OrionNoTraffic", "TN"))


REFUSED = """
import os
import sys
import apache_beam as beam
import pyarrow as pa
from orion_beam.config import KafkaSink
from orion_beam.io.kafka_sink import ProduceMessages
from orion_beam.telemetry.worker_metrics import install
from orion_beam.transforms.encode import ENCODED_SCHEMA

install()
message = pa.RecordBatch.from_pylist([{"key": b"k", "value": os.urandom(1_500_000), "country": "FR"}], ENCODED_SCHEMA)
with beam.Pipeline() as pipeline:
    batches = pipeline | beam.Create([message], reshuffle=False).with_output_types(pa.RecordBatch)
    batches | ProduceMessages(KafkaSink(bootstrap_servers=sys.argv[1]), "cdr.final")
"""
"""Writes what is more than the topic takes, and compression makes no smaller."""


def test_a_record_that_a_broker_refuses(watched: Stack) -> None:
    limit_messages(watched.servers, FINAL.name, 1_000_000)
    with worker_exposition(f"127.0.0.1:{watched.workers_port}") as environment:
        watched.await_clear(("OrionProduceErrors", None))
        worker = subprocess.run(
            [sys.executable, "-c", REFUSED, watched.servers],
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        assert "DeliveryError" in worker.stderr, worker.stderr
        watched.await_firing(("OrionProduceErrors", None))
    # It looks back a minute; with the workers it is gone at once.
    watched.await_clear(("OrionProduceErrors", None))


def test_a_disk_that_fills(watched: Stack) -> None:
    filler = watched.data_dir / "filler"
    try:
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, watched.filled_bytes)
        watched.await_firing(("OrionDiskFull", None))
    finally:
        filler.unlink()
    watched.await_clear(("OrionDiskFull", None))


@pytest.mark.deep
def test_a_broker_that_is_gone_and_comes_back(watched: Stack) -> None:
    os.kill(watched.broker, signal.SIGKILL)
    watched.await_firing(("OrionBrokerDown", None))
    # Where it was: what watches it need not be started again.
    assert watched.local("up", "--port", "0")["bootstrap_servers"] == watched.servers
    watched.await_clear(("OrionBrokerDown", None))


def test_a_monitor_that_hangs(watched: Stack) -> None:
    (monitor,) = [
        process for process in psutil.process_iter(["cmdline"])
        if "monitor" in (process.info["cmdline"] or ()) and watched.servers in process.info["cmdline"]
    ]  # fmt: skip
    monitor.suspend()
    watched.await_firing(("OrionMonitorDown", None))
    monitor.resume()
    watched.await_clear(("OrionMonitorDown", None))


def test_a_broker_tells_of_its_traffic_and_the_monitor_costs_it_little(watched: Stack) -> None:
    own = 'sum(rate(kafka_broker_requests_total{request!~"BrokerHeartbeat|FetchSnapshot|Vote"}[10s]))'
    for query in ("kafka_broker_messages_in_per_sec", "kafka_broker_bytes_in_per_sec", own):
        await_until(lambda asked=query: watched.value(asked) is not None, PATIENCE_S, f"{query} is there")
    requests = watched.value(own)
    print(f"{requests} requests a second")
    # It looks once a second here, and every five seconds by default.
    assert requests is not None
    assert requests < 20
