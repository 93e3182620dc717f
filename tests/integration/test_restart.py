"""A stream that is stopped in mid-run, by whatever means, and started again: nothing is lost, little is done twice."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from orion_beam.kafka.audit import conservation
from orion_beam.kafka.topics import raw_topic
from runners.local_kafka import LocalKafka
from tests.integration.harness import (
    FREQUENT_CHECKPOINTS,
    START_TIMEOUT_S,
    Feed,
    Job,
    StartJob,
    await_all_out,
    await_until,
    committed_offsets,
    kafka_in,
    outcomes,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

RECORDS_PER_SECOND = 1_000
GONE_TIMEOUT_S = 10.0


def kill_jvms(job: Job) -> None:
    assert job.jvms
    for jvm in job.jvms:
        jvm.kill()


def signal_it(number: signal.Signals) -> Callable[[Job], None]:
    return lambda job: job.send(number)


@dataclass(frozen=True)
class Stop:
    """A way to stop a job.

    Attributes:
        country: whose records this test sends: the broker is shared, the topic is not.
        exit_code: None: any that says that the job failed.
        says: a line of the output; it is the last, and there is no traceback.
    """

    country: str
    apply: Callable[[Job], None]
    exit_code: int | None
    says: str | None = None


STOPS = {
    "Ctrl-C": Stop("FR", signal_it(signal.SIGINT), 130),
    "SIGTERM": Stop("TN", signal_it(signal.SIGTERM), 143, "terminated; offsets are committed"),
    "SIGKILL of the JVM": Stop("MA", kill_jvms, None, "orion-beam: error: "),
    "SIGKILL of Python": Stop("SN", signal_it(signal.SIGKILL), -signal.SIGKILL),
}


@pytest.fixture(scope="module")
def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    with kafka_in(tmp_path_factory.mktemp("restart") / "kafka") as broker:
        yield broker


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_stopped_job_leaves_nothing_behind_and_goes_on_where_it_was(
    shared_kafka: LocalKafka, start_job: StartJob, stop: Stop
) -> None:
    servers, topic, group = shared_kafka.bootstrap_servers, raw_topic(stop.country).name, f"restart-{stop.country}"
    start = partial(start_job, servers, "--countries", stop.country, "--group-id", group, beam=[FREQUENT_CHECKPOINTS])

    def committed() -> int:
        return sum(committed_offsets(servers, group, topic).values())

    feed = Feed(servers)
    with feed.flowing(stop.country, RECORDS_PER_SECOND):
        job = start()
        job.await_until(committed, START_TIMEOUT_S, "offsets are committed")
        stop.apply(job)
        exit_code = job.exit_code()
        await_until(lambda: not job.remains, GONE_TIMEOUT_S, "its processes have ended")
        resume_at = committed_offsets(servers, group, topic)
        before = outcomes(servers, topic)

        again = start()
        again.await_until(lambda: committed() > sum(resume_at.values()), START_TIMEOUT_S, "more offsets are committed")
    await_all_out(again, servers, feed)
    again.send(signal.SIGKILL)
    again.exit_code()

    after = outcomes(servers, topic)
    assert set(after) == set(feed.expected)
    assert conservation(servers, [topic]).problems == []
    done = {source for source in feed.expected if source.offset < resume_at.get(source.partition, 0)}
    assert done
    assert done <= set(before), "offsets were committed of records that had not come out"
    assert {after[source] for source in done} == {1}, "records below the committed offsets were read again"

    assert exit_code != 0
    assert exit_code == (stop.exit_code or exit_code)
    assert "Traceback" not in job.log
    if stop.says is not None:
        assert job.log.splitlines()[-1].startswith(stop.says)


def test_a_job_outlives_an_outage_of_the_broker(tmp_path: Path, start_job: StartJob) -> None:
    with kafka_in(tmp_path / "kafka") as kafka, ExitStack() as revived:
        servers, topic, group = kafka.bootstrap_servers, raw_topic("FR").name, "outage"
        port = int(servers.rpartition(":")[2])
        feed = Feed(servers)
        with feed.flowing("FR", RECORDS_PER_SECOND):
            job = start_job(servers, "--countries", "FR", "--group-id", group, beam=[FREQUENT_CHECKPOINTS])
            job.await_until(lambda: committed_offsets(servers, group, topic), START_TIMEOUT_S, "offsets are committed")
            kafka.kill()
            revived.enter_context(LocalKafka(tmp_path / "kafka", port))
            before = sum(committed_offsets(servers, group, topic).values())
            job.await_until(
                lambda: sum(committed_offsets(servers, group, topic).values()) > before + RECORDS_PER_SECOND,
                START_TIMEOUT_S,
                "the job goes on by itself",
            )
        await_all_out(job, servers, feed)
        job.send(signal.SIGKILL)
        job.exit_code()
        assert set(outcomes(servers, topic)) == set(feed.expected)
        assert conservation(servers, [topic]).problems == []
