"""A stream on three brokers of which one is killed: it goes on, and the audit finds nothing missing."""

import signal
from pathlib import Path

import pytest

from orion_beam.defaults import PRODUCTION
from orion_beam.kafka.audit import conservation
from orion_beam.kafka.tally import Tally
from orion_beam.kafka.topics import create_topics, raw_topic
from runners.local_kafka import LocalKafka
from tests.integration.harness import FREQUENT_CHECKPOINTS, START_TIMEOUT_S, Feed, StartJob, await_all_out, outcomes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

RECORDS_PER_SECOND = 1_000


def test_a_stream_loses_nothing_with_one_broker_of_three(tmp_path: Path, start_job: StartJob) -> None:
    topic = raw_topic("FR").name
    kafka = LocalKafka(tmp_path / "kafka", brokers=3).start()
    try:
        servers = kafka.bootstrap_servers
        create_topics(servers, ["FR"], PRODUCTION)
        feed = Feed(servers)
        with feed.flowing("FR", RECORDS_PER_SECOND), Tally(servers) as tally:

            def came_out() -> int:
                tally.poll(0.1)
                return tally.account.accounted([topic])[topic]

            job = start_job(servers, "--countries", "FR", beam=[FREQUENT_CHECKPOINTS])
            job.await_until(came_out, START_TIMEOUT_S, "records come out")
            kafka.kill_broker(2)
            before = came_out()
            job.await_until(
                lambda: came_out() > before + 5 * RECORDS_PER_SECOND, START_TIMEOUT_S, "the job goes on without it"
            )
        await_all_out(job, servers, feed)
        job.send(signal.SIGKILL)
        job.exit_code()
        assert set(outcomes(servers, topic)) == set(feed.expected)
        assert conservation(servers, [topic]).problems == []
    finally:
        kafka.kill()
