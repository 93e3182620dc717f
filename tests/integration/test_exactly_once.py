"""The experiment of decision 0070: Kafka transactions in a Beam job on Flink are not exactly once, in either order.

Flink's own sink stores an open transaction in the checkpoint, and can commit it after a restart. Python can do neither:
Beam tells a DoFn of a completed checkpoint, but not durably, and librdkafka cannot go on with a transaction of a
process that is gone. So a crash between checkpoint and commit loses the transaction, and one between commit and
checkpoint repeats it.
"""

from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # re-exported implicitly

from orion_beam.kafka.admin import admin_client
from orion_beam.kafka.offset_ranges import offset_ranges
from orion_beam.proof.audit import conservation
from orion_beam.runners.local.kafka import LocalKafka
from tests.integration.harness import (
    START_TIMEOUT_S,
    Feed,
    Job,
    Source,
    committed_offsets,
    outcomes,
)
from tests.integration.transactional import AT_BUNDLE, AT_CHECKPOINT, COMMIT_VARIABLE, CRASH_VARIABLE
from tests.topics import FINAL, raw_topic

pytestmark = [pytest.mark.integration, pytest.mark.deep, pytest.mark.timeout(1_800)]

RECORDS = 20_000
TOPIC = raw_topic("FR").name
GROUP = "orion-beam"


def start(directory: Path, servers: str, checkpoint_every_ms: int) -> Job:
    directory.mkdir()
    beam = [f"--checkpointing_interval={checkpoint_every_ms}"]
    module = "tests.integration.transactional"
    return Job(directory / "job.log", servers, "--countries", "FR", beam=beam, module=module)


def transactions_are_over(servers: str) -> bool:
    """Return whether readers of committed records see all that the topic of CDRs will ever show of what was written."""
    admin = admin_client(servers)
    parts = {TopicPartition(FINAL.name, number): OffsetSpec.latest() for number in range(FINAL.partitions)}
    committed, written = (
        {
            part.partition: found.result().offset
            for part, found in admin.list_offsets(parts, isolation_level=level).items()
        }
        for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
    )
    return committed == written


def came_out(servers: str, name: str) -> Counter[Source]:
    """Count the outputs of each record that readers of committed records see."""
    found = outcomes(servers, TOPIC)
    twice = sum(count > 1 for count in found.values())
    print(f"{name}: {RECORDS} in, {len(found)} out, {RECORDS - len(found)} lost, {twice} twice")
    return found


@pytest.mark.parametrize("order", [AT_BUNDLE, AT_CHECKPOINT])
def test_a_transaction_that_is_committed_before_or_after_its_checkpoint_doubles_or_loses_records(
    kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    servers, crash = kafka.bootstrap_servers, tmp_path / "crashed"
    monkeypatch.setenv(COMMIT_VARIABLE, order)
    monkeypatch.setenv(CRASH_VARIABLE, str(crash))
    feed = Feed(servers)
    feed.send_generated("FR", RECORDS)
    feed.flush()
    # The first order crashes after a commit and before a checkpoint, the second one the other way round.
    job = start(tmp_path / "jobs", servers, 3_600_000 if order == AT_BUNDLE else 3_000)
    try:
        if order == AT_BUNDLE:
            job.await_until(lambda: len(outcomes(servers, TOPIC)) == RECORDS, START_TIMEOUT_S, "all are out")
            for worker in job.workers:
                worker.kill()
            job.await_until(
                lambda: min(outcomes(servers, TOPIC).values()) == 2, START_TIMEOUT_S, "all are out a second time"
            )
        else:
            ends = {part.partition: held.high for part, held in offset_ranges(servers, [TOPIC]).items() if held.high}
            job.await_until(crash.exists, START_TIMEOUT_S, "a worker has crashed between checkpoint and commit")
            job.await_until(
                lambda: committed_offsets(servers, GROUP, TOPIC) == ends, START_TIMEOUT_S, "the job has done everything"
            )
            job.await_until(lambda: transactions_are_over(servers), START_TIMEOUT_S, "no transaction is open")
    finally:
        print(job.log[-4_000:])
        job.clean_up()
    found = came_out(servers, f"committed at the {order}")
    lost = RECORDS - len(found)
    if order == AT_BUNDLE:
        assert lost == 0
        assert Counter(found.values())[2] == RECORDS
    else:
        assert lost > 0
        # And nobody but an audit would ever notice: the offsets of the lost records are committed.
        assert conservation(servers, [TOPIC]).problems != []
