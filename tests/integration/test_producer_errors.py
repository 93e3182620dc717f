"""Each class of errors that a producer can have, caused on a real broker: the table in docs/concepts/delivery.md.

test_write.py has the errors of a single message, test_brokers.py too few replicas, test_secured.py a right that is
taken away, and test_refusals.py what becomes of a whole job whose bundles fail.
"""

import random
import resource
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaException

from orion_beam.errors import UserError
from orion_beam.io import kafka_sink
from orion_beam.io.kafka_sink import DeliveryError, _WriteMessagesFn
from orion_beam.kafka.admin import admin_client, topic_names
from orion_beam.kafka.clients import producer_config
from orion_beam.redrive.transactions import Outgoing, TransactionalWriter
from orion_beam.runners.jars.build import ensure_jars, find_java
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.topics.apply import create_topics
from tests.integration.harness import READ_TIMEOUT_S, await_until, kafka_in, read_topic
from tests.integration.test_write import batch_of
from tests.topics import ENRICHED, FINAL, NORMALIZED, VALIDATED, raw_topic

pytestmark = pytest.mark.integration

QUOTA_BYTES_S = 100_000


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    with kafka_in(tmp_path_factory.mktemp("errors") / "kafka") as broker:
        yield broker


@contextmanager
def writing(servers: str, topic: str, **settings: str) -> Iterator[_WriteMessagesFn]:
    """Yield a writer as a worker has it, with settings of its producer; `_` in a name stands for a dot."""
    own = {name.replace("_", "."): value for name, value in settings.items()}
    writer = _WriteMessagesFn(producer_config(servers, own), topic)
    writer.setup()
    try:
        yield writer
    finally:
        writer.teardown()


def write(writer: _WriteMessagesFn, *values: bytes) -> None:
    """Write a bundle to the partition of one key."""
    writer.start_bundle()
    writer.process(batch_of([b"key"] * len(values), list(values)))
    writer.finish_bundle()


@contextmanager
def waits(writer: _WriteMessagesFn, caplog: pytest.LogCaptureFixture, *values: bytes) -> Iterator[Future[None]]:
    """Write a bundle in a thread; enter the block when the writer has told that it waits for the broker."""
    caplog.clear()
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka_sink, "WARN_AFTER_S", 0.2)
        bundle = pool.submit(write, writer, *values)
        await_until(
            lambda: "waiting_for_broker" in [getattr(record, "event", "") for record in [*caplog.records]],
            READ_TIMEOUT_S,
            "the writer tells that it waits",
        )
        assert not bundle.done()
        yield bundle
        bundle.result(READ_TIMEOUT_S)


def answers(servers: str) -> bool:
    """Return whether a broker answers within a second."""
    admin = admin_client(servers)
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


def held(kafka: LocalKafka, topic: str) -> list[bytes]:
    return [record.payload for record in read_topic(kafka.bootstrap_servers, topic)]


def test_a_topic_that_is_deleted_fails_the_bundle_and_made_anew_takes_it(kafka: LocalKafka) -> None:
    topic, servers = FINAL.name, kafka.bootstrap_servers
    with writing(kafka.bootstrap_servers, topic, topic_metadata_propagation_max_ms="1000") as writer:
        write(writer, b"before")
        admin = admin_client(servers)
        admin.delete_topics([topic])[topic].result(READ_TIMEOUT_S)
        await_until(lambda: topic not in topic_names(servers), READ_TIMEOUT_S, "the topic is gone")
        with pytest.raises(DeliveryError, match=f"delivery failed: .*[Uu]nknown (topic|partition).*; topic {topic}"):
            write(writer, b"after")
    create_topics(servers, ["FR"])
    with writing(kafka.bootstrap_servers, topic) as writer:
        write(writer, b"after")
    assert held(kafka, topic) == [b"after"]


def test_a_broker_that_stands_still_is_waited_for_and_with_a_timeout_fails_the_bundle(
    kafka: LocalKafka, caplog: pytest.LogCaptureFixture
) -> None:
    broker = psutil.Process(kafka.brokers[0].pid)
    with (
        writing(kafka.bootstrap_servers, ENRICHED.name) as patient,
        writing(kafka.bootstrap_servers, VALIDATED.name, message_timeout_ms="1000") as hasty,
    ):
        write(patient, b"before")
        write(hasty, b"before")
        broker.suspend()
        try:
            await_until(lambda: not answers(kafka.bootstrap_servers), READ_TIMEOUT_S, "the broker stands still")
            with pytest.raises(
                DeliveryError, match=f"delivery failed: Local: Message timed out; topic {VALIDATED.name}"
            ):
                write(hasty, b"after")
            with waits(patient, caplog, b"after"):
                broker.resume()
        finally:
            broker.resume()
    assert held(kafka, ENRICHED.name) == [b"before", b"after"]
    with writing(kafka.bootstrap_servers, VALIDATED.name) as again:
        write(again, b"after")
    # A producer that gave up does not know whether the broker has got the record: at least once.
    assert held(kafka, VALIDATED.name) in ([b"before", b"after"], [b"before", b"after", b"after"])


@pytest.mark.deep
def test_a_quota_slows_the_writer_and_nothing_is_lost(kafka: LocalKafka, tmp_path: Path) -> None:
    values = [b"%d" % number + random.Random(number).randbytes(100_000) for number in range(20)]

    def alter(*change: str) -> None:
        command = [find_java(), "-cp", ensure_jars().kafka_classpath, "kafka.admin.ConfigCommand"]
        where = ["--bootstrap-server", kafka.bootstrap_servers, "--entity-type", "clients", "--entity-default"]
        subprocess.run([*command, *where, "--alter", *change], check=True, capture_output=True, cwd=tmp_path)

    alter("--add-config", f"producer_byte_rate={QUOTA_BYTES_S}")
    try:
        with writing(kafka.bootstrap_servers, NORMALIZED.name, batch_size="100000", linger_ms="0") as writer:
            began = time.monotonic()
            for value in values:
                write(writer, value)
            took_s = time.monotonic() - began
    finally:
        alter("--delete-config", "producer_byte_rate")
    # A broker looks back ten seconds, so the first million bytes pass at once.
    assert took_s > 2
    assert held(kafka, NORMALIZED.name) == values


def test_of_two_redrives_of_the_same_letters_the_newer_one_fences_the_older_off(kafka: LocalKafka) -> None:
    servers, topic = kafka.bootstrap_servers, raw_topic("TN").name
    with TransactionalWriter(servers, "fenced") as older:
        older.commit([Outgoing(topic, 0, b"key", b"older", [], None)], {"test/older": {}})
        with TransactionalWriter(servers, "fenced") as newer:
            with pytest.raises(UserError, match="another redrive of these letters has started, and goes on from here"):
                older.commit([Outgoing(topic, 0, b"key", b"lost", [], None)], {"test/lost": {}})
            newer.commit([Outgoing(topic, 0, b"key", b"newer", [], None)], {"test/newer": {}})
            assert {"test/older", "test/newer"} <= newer.read_journal().keys()
            assert "test/lost" not in newer.read_journal()
    assert held(kafka, topic) == [b"older", b"newer"]


def test_a_broker_whose_disk_refuses_to_be_written_ends_and_the_writer_waits_for_it(
    kafka: LocalKafka, caplog: pytest.LogCaptureFixture
) -> None:
    (broker,) = kafka.brokers
    topic = raw_topic("SN").name
    values = [b"%d" % number + random.Random(number).randbytes(250_000) for number in range(60)]
    largest = max(file.stat().st_size for file in kafka.data_dir.rglob("*") if file.is_file())
    assert largest < sum(map(len, values))
    with writing(kafka.bootstrap_servers, topic) as writer:
        write(writer, b"before")
        # The kernel lets no file grow beyond this, as if the disk were full or broken.
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (largest, largest))
        with waits(writer, caplog, *values):
            await_until(lambda: broker.exit_code is not None, READ_TIMEOUT_S, "the broker has ended")
            assert "File too large" in broker.log
            kafka.kill()
            kafka.rejoin(kafka.ports, [1])
    assert held(kafka, topic) == [b"before", *values]
