"""A stream that is stopped in mid-run, by whatever means, and started again: nothing is lost, little is done twice."""

import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka.cimpl import NewPartitions

from orion_beam.kafka.admin import admin_client
from orion_beam.proof.audit import conservation
from orion_beam.runners.local.kafka import LocalKafka
from tests.integration.harness import (
    FREQUENT_CHECKPOINTS,
    QUICK_TO_MISS,
    START_TIMEOUT_S,
    Feed,
    Job,
    Source,
    StartJob,
    await_all_out,
    await_until,
    committed_offsets,
    kafka_in,
    lease_holders,
    outcomes,
)
from tests.topics import FINAL_PARTITIONS, raw_topic

pytestmark = pytest.mark.integration

RECORDS_PER_SECOND = 500
GONE_TIMEOUT_S = 600.0
SESSION_S = 1200
SLOW_TO_MISS = ("--consumer-config", f"session.timeout.ms={SESSION_S}000")
"""Options with which Kafka keeps the lease of a killed job for longer than the test waits for anything."""
OUTAGE_S = 10.0
"""Duration of an outage: longer than the session timeout of QUICK_TO_MISS."""


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
        exit_code: None: any that says that the job failed.
        says: a line of the output; it is the last, and there is no traceback.
    """

    apply: Callable[[Job], None]
    exit_code: int | None
    says: str | None = None


STOPS = {
    "Ctrl-C": Stop(signal_it(signal.SIGINT), 130),
    "SIGKILL of the JVM": Stop(kill_jvms, None, "orion-beam: error: "),
    "SIGKILL of Python": Stop(signal_it(signal.SIGKILL), -signal.SIGKILL),
}


class Resume(NamedTuple):
    """What there was when a job had been stopped: the offsets that it had committed, and what had come out."""

    committed: dict[int, int]
    outcomes: Counter[Source]


def test_a_job_that_is_stopped_in_every_way_leaves_nothing_behind_and_goes_on_where_it_was(
    kafka: LocalKafka, start_job: StartJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    servers, topic, group = kafka.bootstrap_servers, raw_topic("FR").name, "restart"
    options = ("--countries", "FR", "--group-id", group, *QUICK_TO_MISS)
    start = partial(start_job, servers, *options, beam=[FREQUENT_CHECKPOINTS])

    def committed() -> int:
        return sum(committed_offsets(servers, group, topic).values())

    feed = Feed(servers)
    resumes: dict[str, Resume] = {}
    with feed.flowing("FR", RECORDS_PER_SECOND):
        for way, stop in STOPS.items():
            before = committed()
            job = start()
            job.await_until(lambda before=before: committed() > before, START_TIMEOUT_S, f"it commits, until {way}")
            assert len(job.jvms) == 1, f"those of a job are one, once it runs; before {way}"
            stop.apply(job)
            exit_code = job.exit_code()
            await_until(lambda job=job: not job.remains, GONE_TIMEOUT_S, f"its processes have ended after {way}")
            resumes[way] = Resume(committed_offsets(servers, group, topic), outcomes(servers, topic))
            assert exit_code != 0, way
            assert exit_code == (stop.exit_code or exit_code), way
            assert "Traceback" not in job.log, way
            # Whoever was killed has removed nothing.
            assert not list(temporary.iterdir()) or exit_code == -signal.SIGKILL, way
            if stop.says is not None:
                assert job.log.splitlines()[-1].startswith(stop.says), way
        before = committed()
        last = start()
        last.await_until(lambda: committed() > before, START_TIMEOUT_S, "more offsets are committed")
    await_all_out(last, servers, feed)
    last.send(signal.SIGKILL)
    last.exit_code()

    after = outcomes(servers, topic)
    assert set(after) == set(feed.expected)
    assert conservation(servers, [topic]).problems == []
    for way, resume in resumes.items():
        done = {source for source in feed.expected if source.offset < resume.committed.get(source.partition, 0)}
        assert done, way
        assert done <= set(resume.outcomes), f"{way}: offsets were committed of records that had not come out"
        again = {source for source in done if after[source] != resume.outcomes[source]}
        assert not again, f"{way}: records below the committed offsets were read again"


@pytest.mark.deep
def test_a_second_job_of_a_group_is_refused_while_one_is_alive(kafka: LocalKafka, start_job: StartJob) -> None:
    servers, group = kafka.bootstrap_servers, "shared"
    start = partial(start_job, servers, "--group-id", group, beam=[FREQUENT_CHECKPOINTS])
    first = start("--countries", "FR", *SLOW_TO_MISS)
    first.await_until(lambda: lease_holders(servers, group), START_TIMEOUT_S, "it holds its lease")
    its_lease = {holder.job for holder in lease_holders(servers, group)}

    second = start("--countries", "TN,FR", *QUICK_TO_MISS)
    assert second.exit_code(START_TIMEOUT_S) == 2
    assert "in case that it has just died" in second.log
    assert re.search(
        r"error: group shared: a job that was started on \S+ at \S+Z reads cdr\.raw\.FR .*"
        r"every record comes out twice: .* --group-id; --allow-second-job starts it",
        second.log.splitlines()[-1],
    )

    # One of other countries may share the group, and who insists is let.
    for options in (["--countries", "TN"], ["--countries", "FR", "--allow-second-job"]):
        third = start(*options, *QUICK_TO_MISS)
        third.await_until(lambda job=third: "Ctrl-C stops it" in job.log, START_TIMEOUT_S, "it is let")
        third.send(signal.SIGKILL)
        third.exit_code()
    await_until(
        lambda: {holder.job for holder in lease_holders(servers, group)} == its_lease,
        GONE_TIMEOUT_S,
        "Kafka has removed the jobs that were killed",
    )

    # One that is stopped in good order gives its lease back, and the next one need not wait.
    first.send(signal.SIGINT)
    first.exit_code()
    await_until(lambda: lease_holders(servers, group) == [], SESSION_S / 2, "its lease is free")
    following = start("--countries", "FR")
    following.await_until(lambda: "Ctrl-C stops it" in following.log, START_TIMEOUT_S, "the next one is let")
    assert "in case that it has just died" not in following.log


@pytest.mark.deep
def test_of_two_jobs_one_reads_also_if_they_start_at_once_or_if_one_has_stood_still(
    kafka: LocalKafka, start_job: StartJob
) -> None:
    servers, topic, group = kafka.bootstrap_servers, raw_topic("FR").name, "fenced"
    start = partial(
        start_job, servers, "--countries", "FR", "--group-id", group, *QUICK_TO_MISS, beam=[FREQUENT_CHECKPOINTS]
    )
    feed = Feed(servers)
    with feed.flowing("FR", RECORDS_PER_SECOND):
        rivals = [start(), start()]
        await_until(lambda: not all(job.is_running for job in rivals), START_TIMEOUT_S, "one of the two ends")
        refused, reading = sorted(rivals, key=lambda job: job.is_running)
        assert_refused(refused, group)
        assert "Ctrl-C stops it" in refused.log, "it was refused at the start, and not while it ran"
        reading.await_until(lambda: committed_offsets(servers, group, topic), START_TIMEOUT_S, "the other one commits")
        assert set(outcomes(servers, topic).values()) == {1}

        with reading.standing_still():
            committed = committed_offsets(servers, group, topic)
            heir = start()
            heir.await_until(
                lambda: (
                    sum(committed_offsets(servers, group, topic).values())
                    > sum(committed.values()) + RECORDS_PER_SECOND
                ),
                START_TIMEOUT_S,
                "another one takes its place",
            )
        assert_refused(reading, group)
        before = sum(committed_offsets(servers, group, topic).values())
        heir.await_until(
            lambda: sum(committed_offsets(servers, group, topic).values()) > before + RECORDS_PER_SECOND,
            START_TIMEOUT_S,
            "the other one goes on",
        )
    await_all_out(heir, servers, feed)
    after = outcomes(servers, topic)
    assert set(after) == set(feed.expected)
    # What was read but not committed when the job stood still came out of both. The job read nothing after that.
    assert {times for source, times in after.items() if source.offset < committed[source.partition]} == {1}
    assert max(after.values()) <= 2
    assert conservation(servers, [topic]).problems == []


def assert_refused(job: Job, group: str) -> None:
    assert job.exit_code(START_TIMEOUT_S) == 2, job.log
    assert re.fullmatch(
        rf"orion-beam: error: group {group}: a job that was started on \S+ at \S+Z holds the lease of cdr\.raw\.FR; .*",
        job.log.splitlines()[-1],
    ), job.log
    assert "Traceback" not in job.log


def test_a_job_outlives_an_outage_of_the_broker_and_reads_partitions_that_come_later(
    tmp_path: Path, start_job: StartJob
) -> None:
    with kafka_in(tmp_path / "kafka") as kafka, ExitStack() as revived:
        servers, topic, group = kafka.bootstrap_servers, raw_topic("FR").name, "outage"
        port = int(servers.rpartition(":")[2])
        feed = Feed(servers)
        with feed.flowing("FR", RECORDS_PER_SECOND):
            options = ("--countries", "FR", "--group-id", group, "--quiet", *QUICK_TO_MISS)
            job = start_job(servers, *options, beam=[FREQUENT_CHECKPOINTS])
            job.await_until(lambda: committed_offsets(servers, group, topic), START_TIMEOUT_S, "offsets are committed")
            kafka.kill()
            killed = time.monotonic()
            job.await_until(lambda: time.monotonic() > killed + OUTAGE_S, 2 * OUTAGE_S, "the lease's session is over")
            revived.enter_context(LocalKafka(tmp_path / "kafka", port))
            before = sum(committed_offsets(servers, group, topic).values())
            job.await_until(
                lambda: sum(committed_offsets(servers, group, topic).values()) > before + RECORDS_PER_SECOND,
                START_TIMEOUT_S,
                "the job goes on by itself",
            )

            new = set(range(FINAL_PARTITIONS, 2 * FINAL_PARTITIONS))
            admin = admin_client(servers)
            for done in admin.create_partitions([NewPartitions(topic, 2 * FINAL_PARTITIONS)]).values():
                done.result()
            added = time.monotonic()
            await_until(
                lambda: len(admin.list_topics(topic).topics[topic].partitions) == 2 * FINAL_PARTITIONS,
                START_TIMEOUT_S,
                "the broker names the new partitions",
            )
            grown = Feed(servers)  # a new producer, which knows all partitions
            with grown.flowing("FR", RECORDS_PER_SECOND):
                job.await_until(
                    lambda: new <= {source.partition for source in outcomes(servers, topic)},
                    START_TIMEOUT_S,
                    "records of all new partitions come out",
                )
                took = time.monotonic() - added
        assert took < 60, f"new partitions are read after {took:.0f} s"
        feed.expected |= grown.expected
        await_all_out(job, servers, feed)
        job.send(signal.SIGTERM)
        assert job.exit_code() == 143
        assert job.log.splitlines()[-1].startswith("terminated; offsets are committed")
        assert "; lag " not in job.log, "--quiet leaves out the line a minute"
        await_until(lambda: not job.remains, GONE_TIMEOUT_S, "its processes have ended")
        assert set(outcomes(servers, topic)) == set(feed.expected)
        assert conservation(servers, [topic]).problems == []
        assert committed_offsets(servers, group, topic).keys() == set(range(2 * FINAL_PARTITIONS))
