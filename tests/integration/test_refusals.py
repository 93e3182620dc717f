"""A topic that refuses every record stops the job, loudly, and nothing is lost."""

import json
import os

import pytest

from orion_beam.proof.audit import conservation
from orion_beam.runners.local.kafka import LocalKafka
from tests.integration.harness import (
    FREQUENT_CHECKPOINTS,
    START_TIMEOUT_S,
    Feed,
    StartJob,
    await_all_out,
    await_until,
    limit_messages,
    read_topic,
)
from tests.topics import DEAD_LETTERS, raw_topic

pytestmark = pytest.mark.integration


def test_a_topic_that_takes_no_dead_letter_stops_the_job_and_none_is_lost(
    kafka: LocalKafka, start_job: StartJob
) -> None:
    servers, topic = kafka.bootstrap_servers, raw_topic("FR").name
    limit_messages(servers, DEAD_LETTERS.name, 200)  # not even a letter by reference fits
    garbage = os.urandom(100 * 1024)  # compression makes it no smaller
    feed = Feed(servers)
    feed.send_generated("FR", 1_000)
    feed.send(topic, b"key", garbage, code="oversized_payload")
    feed.flush()

    # Flink starts a failed task again, by default for ever.
    once_more = [FREQUENT_CHECKPOINTS, "--number_of_execution_retries=2"]
    job = start_job(servers, "--countries", "FR", "--log-format", "json", beam=once_more)
    assert job.exit_code(START_TIMEOUT_S) not in {0, 130, 143}
    await_until(lambda: not job.remains, START_TIMEOUT_S, "its processes have ended")
    # What the workers, which are processes of their own, have logged is among the lines of the command.
    lines = [json.loads(line) for line in job.log.splitlines() if line.startswith("{")]
    refused = [line for line in lines if line.get("event") == "delivery_failed"]
    assert {(line["level"], line["job"], line["topic"]) for line in refused} == {
        ("ERROR", "orion-beam", DEAD_LETTERS.name)
    }
    assert any("DeliveryError" in line["message"] for line in lines)
    assert lines[-1]["message"].startswith("orion-beam: error: ")

    limit_messages(servers, DEAD_LETTERS.name, 2 << 20)
    again = start_job(servers, "--countries", "FR", beam=[FREQUENT_CHECKPOINTS])
    await_all_out(again, servers, feed)
    assert conservation(servers, [topic]).problems == []
    assert {letter.value for letter in read_topic(servers, DEAD_LETTERS.name)} == {garbage}
