"""Three brokers of which one is killed: look-ups and changes wait for new leaders, and a stream goes on."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count

import psutil
import pytest
from confluent_kafka import ElectionType, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic, OffsetSpec  # type: ignore[attr-defined]  # re-exported implicitly

from orion_beam.countries import profiles_of
from orion_beam.defaults import PRODUCTION
from orion_beam.doctor.findings import Status
from orion_beam.doctor.kafka_checks import KafkaNeeds, group_checks, loss_checks, other_checks, start_checks
from orion_beam.generator import generate_batches
from orion_beam.generator.sinks import GeneratedTopics
from orion_beam.kafka.admin import GroupQuery, admin_client
from orion_beam.kafka.lease import lease_group
from orion_beam.kafka.offset_ranges import SourcePartition, list_offsets, offset_ranges, offsets_at, read_ranges
from orion_beam.kafka.retry import is_retriable, retried
from orion_beam.monitoring.monitor import Monitor, MonitorConfig
from orion_beam.proof.audit import conservation
from orion_beam.proof.tally import Tally
from orion_beam.redrive.journal import read_journal, write_journal
from orion_beam.redrive.targets import Targets
from orion_beam.redrive.transactions import Outgoing, TransactionalWriter
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.topics.apply import apply_changes, create_topics
from orion_beam.topics.cluster_state import describe_cluster
from orion_beam.topics.plan import ChangeKind, TopicChange
from tests.integration.harness import (
    FREQUENT_CHECKPOINTS,
    START_TIMEOUT_S,
    Feed,
    StartJob,
    await_all_out,
    await_until,
    committed_offsets,
    outcomes,
    read_topic,
)
from tests.integration.test_producer_errors import waits, write, writing
from tests.topics import CATALOGUE, raw_topic

pytestmark = pytest.mark.integration

RECORDS_PER_SECOND = 1_000
TOPIC = raw_topic("FR").name
LATEST = OffsetSpec.latest()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """Three brokers with all topics."""
    kafka = LocalKafka(tmp_path_factory.mktemp("kafka"), brokers=3).start()
    try:
        create_topics(kafka.bootstrap_servers, ["FR", "MA"], PRODUCTION)
        yield kafka
    finally:
        kafka.kill()


def test_every_question_and_change_waits_for_new_leaders(cluster: LocalKafka) -> None:
    servers = cluster.bootstrap_servers
    generate(servers, 500)
    write_journal(servers, "test/before", {})
    committed_offsets(servers, "test", TOPIC)
    held = offset_ranges(servers, [TOPIC])
    monitor = Monitor(MonitorConfig(servers, "test", profiles_of(["FR"])))
    assert monitor.look().is_up
    admin = admin_client(servers)
    leader = admin.list_topics(timeout=600).topics[TOPIC].partitions[0].leader
    needs = KafkaNeeds(servers, group_of(servers, leader), (TOPIC,), ("cdr.final", "cdr.dlq"), "cdr.final", "cdr.dlq")
    waiting: dict[str, Callable[[], object]] = {
        "offsets": lambda: offset_ranges(servers, [TOPIC]),
        "offsets at a time": lambda: offsets_at(servers, held, datetime(2026, 1, 1, tzinfo=UTC)),
        "commits": lambda: committed_offsets(servers, "test", TOPIC),
        "records": lambda: sum(batch.num_rows for batch in read_ranges(servers, held)),
        "settings": lambda: describe_cluster(servers, [TOPIC]),
        "desk": lambda: Targets.of(servers, "cdr.dlq"),
        "journal": lambda: read_journal(servers),
        "entry": lambda: write_journal(servers, "test/during", {}),
        "transaction": lambda: redrive(servers),
        "audit": lambda: conservation(servers, [TOPIC]),
        "doctor": lambda: [*start_checks(needs), *loss_checks(needs), *group_checks(needs)],
        "new topic": lambda: create_topics(servers, ["FR", "TN"], PRODUCTION),
        "new setting": lambda: apply_changes(servers, [], [keep_longer()]),
        "generator": lambda: generate(servers, 500),
        # It gives up sooner than others, and looks again.
        "monitor": lambda: await_until(lambda: monitor.look().is_up, START_TIMEOUT_S, "Kafka is up again"),
    }

    cluster.kill_broker(leader)
    try:
        with ThreadPoolExecutor(len(waiting)) as pool:
            seen = pool.submit(first_error, servers)
            running = {name: pool.submit(ask) for name, ask in waiting.items()}
            answers = {name: future.result() for name, future in running.items()}
        # Otherwise nobody was there to wait for.
        assert seen.result() is not None
    finally:
        cluster.rejoin(cluster.ports, [leader])
        monitor.close()

    assert answers["records"] == 500
    assert answers["new topic"] == ["cdr.raw.TN"]
    assert answers["new setting"] == []
    assert {check.status for check in answers["doctor"]} == {Status.OK}
    assert {"test/before", "test/during", "test/redriven"} <= read_journal(servers).keys()
    assert sum(within.offsets for within in offset_ranges(servers, [TOPIC]).values()) == 1_000
    assert describe_cluster(servers, ["cdr.dlq"]).topics["cdr.dlq"].settings["retention.ms"] == keep_longer().after
    assert {check.status for check in other_checks(needs, 1_000)} == {Status.OK}


def test_a_partition_without_a_leader_hides_no_other_from_the_monitor(cluster: LocalKafka) -> None:
    servers = cluster.bootstrap_servers
    alone, whole = raw_topic("SN").name, raw_topic("FR").name
    # Each partition has one replica, on a broker of its own.
    admin = admin_client(servers)
    (created,) = admin.create_topics([NewTopic(alone, 2, replica_assignment=[[1], [2]])]).values()
    created.result(START_TIMEOUT_S)
    feed = Feed(servers)
    for partition in range(2):
        feed.send(alone, None, b"x", code=None, partition=partition)
    feed.flush()
    monitor = Monitor(MonitorConfig(servers, "test", profiles_of(["FR", "SN"])))
    await_until(lambda: "SN" in monitor.look().countries, START_TIMEOUT_S, "the monitor knows the new topic")
    before = monitor.look()
    assert before.countries["SN"].lag == 2
    cluster.kill_broker(2)
    try:

        def looks_without_it() -> bool:
            now = monitor.look()
            return now.reading is not None and now.reading.leaderless == 1

        await_until(looks_without_it, START_TIMEOUT_S, "one partition has no leader, and the monitor reads the others")
        feed.send(whole, None, b"x", code=None, partition=0)
        feed.send(alone, None, b"x", code=None, partition=0)
        feed.flush()
        now = monitor.look()
        assert now.countries["SN"].lag == 3
        assert now.countries["FR"].lag == before.countries["FR"].lag + 1
        assert now.written == before.written
    finally:
        cluster.rejoin(cluster.ports, [2])
        monitor.close()


def test_a_client_asks_a_leader_that_leads_once_more(cluster: LocalKafka) -> None:
    servers, part = cluster.bootstrap_servers, SourcePartition("led-again", 0)
    first, second = (broker.number for broker in cluster.brokers[:2])
    admin, other = admin_client(servers), admin_client(servers)
    (created,) = admin.create_topics([NewTopic(part.topic, 1, replica_assignment=[[first, second]])]).values()
    created.result(START_TIMEOUT_S)

    def is_led_by(broker: int) -> bool:
        try:
            seen = other.list_topics(part.topic, timeout=10).topics[part.topic].partitions[0]
        except KafkaException:  # asked of the broker that stands still
            return False
        return seen.leader == broker and (broker == second or len(seen.isrs) == 2)

    def elect() -> bool:
        with suppress(KafkaException):  # the controller may have changed, too
            other.elect_leaders(ElectionType.PREFERRED, [TopicPartition(*part)]).result()
        return is_led_by(first)

    assert list_offsets(admin, servers, [part], LATEST)[part].offset == 0
    # A broker that stands still keeps its connections, so nothing makes the client look up the leader again.
    broker = psutil.Process(cluster.brokers[0].pid)
    broker.suspend()
    try:
        await_until(lambda: is_led_by(second), START_TIMEOUT_S, "another broker leads")
    finally:
        broker.resume()
    await_until(elect, START_TIMEOUT_S, "the first one leads again")
    (answer,) = admin.list_offsets({TopicPartition(*part): LATEST}).values()
    with pytest.raises(KafkaException) as refused:
        answer.result()
    assert refused.value.args[0].code() == KafkaError.FENCED_LEADER_EPOCH
    assert list_offsets(admin, servers, [part], LATEST)[part].offset == 0


def group_of(servers: str, broker: int) -> str:
    """Return the id of a group for which a broker is the coordinator, and for that of its lease."""
    return next(group for group in map("test-{}".format, count()) if coordinators(servers, group) == {broker})


def coordinators(servers: str, group: str) -> set[int]:
    """Return the numbers of the brokers that are the coordinators of a group and of that of its lease."""
    query, ids = GroupQuery(servers), (group, lease_group(group))

    def ask(timeout_s: float) -> set[int]:
        return {answer.result().coordinator.id for answer in query.ask(ids, timeout_s).values()}

    return retried("coordinators", servers, ask)


def test_a_write_with_too_few_replicas_in_sync_waits_for_them(
    cluster: LocalKafka, caplog: pytest.LogCaptureFixture
) -> None:
    topic = "of-two"
    settings = {"min.insync.replicas": "2"}
    admin = admin_client(cluster.bootstrap_servers)
    (created,) = admin.create_topics([NewTopic(topic, 1, replica_assignment=[[1, 2]], config=settings)]).values()
    created.result(START_TIMEOUT_S)
    with writing(cluster.bootstrap_servers, topic) as writer:
        write(writer, b"before")
        cluster.kill_broker(2)
        try:
            with waits(writer, caplog, b"after"):
                cluster.rejoin(cluster.ports, [2])
        finally:
            if not cluster.brokers[1].is_running:
                cluster.rejoin(cluster.ports, [2])
    assert [record.value for record in read_topic(cluster.bootstrap_servers, topic)] == [b"before", b"after"]


def first_error(servers: str) -> str | None:
    """Ask, without anybody who waits, where a topic ends; return the first error that passes, if there is any."""
    admin = admin_client(servers)
    ends = {TopicPartition(TOPIC, partition): OffsetSpec.latest() for partition in range(12)}
    for _ in range(20):
        try:
            for answer in admin.list_offsets(ends, request_timeout=0.5).values():
                if answer.result().offset < 0:
                    return "nothing"
        except KafkaException as error:
            if is_retriable(error.args[0], topics_exist=True):
                return error.args[0].str()
            raise
    return None


def generate(servers: str, records: int) -> None:
    (profile,) = profiles_of(["FR"]).values()
    with GeneratedTopics(servers, [profile]) as sink:
        for batch in generate_batches(profile, records, 0, 0.0):
            sink.send(profile, sink.prepare(batch))


def redrive(servers: str) -> None:
    with TransactionalWriter(servers, "test-redrive") as writer:
        writer.commit([Outgoing("cdr.enriched", 0, b"key", b"value", [], None)], {"test/redriven": {}})


def keep_longer() -> TopicChange:
    (letters,) = [topic for topic in CATALOGUE.topics_of([], PRODUCTION) if topic.name == "cdr.dlq"]
    before = int(letters.settings["retention.ms"])
    return TopicChange(ChangeKind.CHANGE, letters.name, "retention.ms", str(before), str(before + 1))


def test_a_stream_loses_nothing_with_one_broker_of_three(cluster: LocalKafka, start_job: StartJob) -> None:
    servers = cluster.bootstrap_servers
    topic = raw_topic("MA").name
    feed = Feed(servers)
    with feed.flowing("MA", RECORDS_PER_SECOND), Tally(servers) as tally:

        def came_out() -> int:
            tally.poll(0.1)
            return tally.account.accounted([topic])[topic]

        job = start_job(servers, "--countries", "MA", beam=[FREQUENT_CHECKPOINTS])
        job.await_until(came_out, START_TIMEOUT_S, "records come out")
        cluster.kill_broker(2)
        before = came_out()
        job.await_until(
            lambda: came_out() > before + 5 * RECORDS_PER_SECOND, START_TIMEOUT_S, "the job goes on without it"
        )
    await_all_out(job, servers, feed)
    job.send(signal.SIGKILL)
    job.exit_code()
    assert set(feed.expected) <= set(outcomes(servers, topic))
    assert conservation(servers, [topic]).problems == []
