"""The experiment of decision 0070: Kafka transactions in a Beam job on Flink are not exactly once, in either order.

Flink's own sink stores an open transaction in the checkpoint, and can commit it after a restart. Python can do neither:
Beam tells a DoFn of a completed checkpoint, but not durably, and librdkafka cannot go on with a transaction of a
process that is gone. So a crash between checkpoint and commit loses the transaction, and one between commit and
checkpoint repeats it.
"""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # re-exported implicitly

from orion_beam.kafka.admin import admin_client
from orion_beam.kafka.offset_ranges import offset_ranges
from orion_beam.kafka.retry import is_retriable
from orion_beam.proof.audit import conservation
from orion_beam.runners.local.kafka import LocalKafka
from tests.integration.harness import START_TIMEOUT_S, Feed, Job, Source, committed_offsets, outcomes
from tests.integration.transactional import (
    AT_BUNDLE,
    AT_CHECKPOINT,
    COMMIT_VARIABLE,
    DIRECTORY_VARIABLE,
    HELD,
    TRANSACTION_TIMEOUT_S,
    OpenTransaction,
)
from tests.topics import FINAL, raw_topic

pytestmark = [pytest.mark.integration, pytest.mark.deep, pytest.mark.timeout(1_800)]

RECORDS, LATER_RECORDS = 20_000, 1_000
TOPIC = raw_topic("FR").name
GROUP = "orion-beam"


@pytest.fixture
def transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory with a file for each open transaction of the order of checkpoints."""
    directory = tmp_path / "transactions"
    directory.mkdir()
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(directory))
    return directory


@pytest.fixture
def feed(kafka: LocalKafka) -> Feed:
    feed = Feed(kafka.bootstrap_servers)
    feed.send_generated("FR", RECORDS)
    feed.flush()
    return feed


@pytest.fixture
def job(
    kafka: LocalKafka, transactions: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Job]:
    """The job with transactions; the parameter is its order. That of bundles never reaches a checkpoint."""
    monkeypatch.setenv(COMMIT_VARIABLE, request.param)
    beam = [f"--checkpointing_interval={3_600_000 if request.param == AT_BUNDLE else 3_000}"]
    module = "tests.integration.transactional"
    job = Job(transactions.with_name("job.log"), kafka.bootstrap_servers, "--countries", "FR", beam=beam, module=module)
    try:
        yield job
    finally:
        job.clean_up()
        print(job.log[-4_000:])


def send_more(feed: Feed) -> None:
    """Flink notices that workers are gone when it has records for them."""
    feed.send_generated("FR", LATER_RECORDS, seed=1)
    feed.flush()


def checkpoint_covers_everything(servers: str) -> bool:
    """Return whether the last checkpoint is behind all records: the job commits the offsets of complete checkpoints."""
    ends = {part.partition: held.high for part, held in offset_ranges(servers, [TOPIC]).items() if held.high}
    return committed_offsets(servers, GROUP, TOPIC) == ends


def transactions_are_over(servers: str) -> bool:
    """Return whether readers of committed records see all that the topic of CDRs will ever show of what was written."""
    admin = admin_client(servers)
    parts = {TopicPartition(FINAL.name, number): OffsetSpec.latest() for number in range(FINAL.partitions)}
    try:
        committed, written = (
            [found.result().offset for found in admin.list_offsets(parts, isolation_level=level).values()]
            for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
        )
    except KafkaException as e:
        # A busy broker may have lost its session for a moment, and leads its partitions anew.
        if not is_retriable(e.args[0]):
            raise
        return False
    return committed == written


def tell(order: str, feed: Feed, found: Counter[Source]) -> None:
    lost, twice = len(feed.expected.keys() - found.keys()), sum(count > 1 for count in found.values())
    print(f"committed at the {order}: {len(feed.expected)} in, {lost} lost, {twice} twice")


@pytest.mark.parametrize("job", [AT_BUNDLE], indirect=True)
def test_a_transaction_that_is_committed_before_its_checkpoint_is_written_again_after_a_crash(
    kafka: LocalKafka, feed: Feed, job: Job
) -> None:
    servers, first = kafka.bootstrap_servers, set(feed.expected)
    job.await_until(lambda: len(outcomes(servers, TOPIC)) == RECORDS, START_TIMEOUT_S, "all are out")
    for worker in job.workers:
        worker.kill()
    send_more(feed)

    def all_are_out_again() -> bool:
        found = outcomes(servers, TOPIC)
        return found.keys() == feed.expected.keys() and all(found[source] > 1 for source in first)

    job.await_until(all_are_out_again, START_TIMEOUT_S, "all are out a second time")
    tell(AT_BUNDLE, feed, outcomes(servers, TOPIC))


@pytest.mark.parametrize("job", [AT_CHECKPOINT], indirect=True)
def test_a_transaction_that_is_committed_after_its_checkpoint_is_lost_in_a_crash_before_the_commit(
    kafka: LocalKafka, feed: Feed, job: Job, transactions: Path
) -> None:
    servers, held = kafka.bootstrap_servers, transactions / HELD
    job.await_until(held.exists, START_TIMEOUT_S, "a worker is to commit a transaction")
    job.await_until(lambda: checkpoint_covers_everything(servers), START_TIMEOUT_S, "a checkpoint is behind all")
    crashed = OpenTransaction.read(held)
    assert crashed.sources
    assert feed.expected.keys() >= set(crashed.sources)
    psutil.Process(crashed.pid).kill()
    assert time.time() < crashed.begun_at + TRANSACTION_TIMEOUT_S, "the broker may have aborted it before the crash"
    send_more(feed)
    job.await_until(lambda: checkpoint_covers_everything(servers), START_TIMEOUT_S, "the job has gone on to the end")
    job.await_until(lambda: transactions_are_over(servers), START_TIMEOUT_S, "no transaction is open")
    found = outcomes(servers, TOPIC)
    tell(AT_CHECKPOINT, feed, found)
    print(f"killed before the commit of {crashed.transactional_id} with {len(crashed.sources)} records")
    lost = feed.expected.keys() - found.keys()
    open_ones = [OpenTransaction.read(file) for file in transactions.iterdir()]
    assert set(crashed.sources) <= lost
    assert lost <= {source for each in open_ones if each.pid == crashed.pid for source in each.sources}
    # Only an audit notices: the job runs, and the offsets of the lost records are committed.
    assert job.is_running
    assert conservation(servers, [TOPIC]).problems
