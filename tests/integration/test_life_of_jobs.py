"""Four country jobs on a cluster of processes, through all that happens to jobs: no record is lost, and no job ends.

Two JobManagers with ZooKeeper, two TaskManagers, two worker pools, three brokers, and the state on S3.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from confluent_kafka.cimpl import NewPartitions

from orion_beam.defaults import CELLS, PRODUCTION
from orion_beam.kafka.admin import admin_client
from orion_beam.proof.audit import conservation
from orion_beam.runners.jars.build import guard_environment, orion_home
from orion_beam.runners.local.broker import free_ports
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.topics.apply import create_topics
from tests.command import Answer, Command
from tests.integration.harness import (
    START_TIMEOUT_S,
    Feed,
    await_until,
    committed_offsets,
    lease_holders,
    records_on,
)
from tests.integration.test_cluster import workers
from tests.integration.test_high_availability import highly_available
from tests.integration.test_jobs import Place
from tests.integration.test_submit import GROUP
from tests.s3 import s3_in
from tests.topics import DEAD_LETTERS, FINAL, raw_topic

pytestmark = [pytest.mark.integration, pytest.mark.deep, pytest.mark.timeout(7_200)]

POOLS = (("FR", "TN"), ("MA", "SN"))
"""Countries of each worker pool."""
COUNTRIES = tuple(code for pool in POOLS for code in pool)
RECORDS_PER_SECOND = 100
SLOTS = 4
"""Slots of each TaskManager: four jobs, one of them with two subtasks, and a new version beside an old one."""
SESSION_MS = 40_000
"""Session of a JobManager at ZooKeeper. Seventeen processes on two cores keep each other waiting for long."""
MORE_PARTITIONS = 24
TASK_MANAGERS_LOST = 10
LEADERS_LOST = 2
TOPICS = [raw_topic(code).name for code in COUNTRIES]


class Life:
    """The cluster with its two worker pools, and the jobs' names and records."""

    def __init__(self, places: tuple[Place, Place], command: Command, capsys: pytest.CaptureFixture[str]) -> None:
        self.places = dict(zip(POOLS, places, strict=True))
        self.cluster, self.servers = places[0].flink, places[0].servers
        self._command, self._capsys = command, capsys

    def jobs(self, *words: object) -> Answer:
        """Call `orion-beam jobs` for this cluster."""
        self._capsys.readouterr()
        return self._command("jobs", *words, *next(iter(self.places.values())).options)

    def place(self, code: str) -> Place:
        """Return the cluster with the worker pool of a country."""
        return next(place for codes, place in self.places.items() if code in codes)

    def job_ids(self) -> dict[str, str]:
        """Return the id of each job that runs, by name; each name must be there once."""
        found = [job for job in json.loads(self.jobs("ls", "--json").out) if job["state"] == "RUNNING"]
        assert len({job["name"] for job in found}) == len(found)
        return {job["name"]: job["id"] for job in found}

    def readers(self) -> dict[str, set[str]]:
        """Return the jobs that read each topic, by the leases that they hold."""
        found: dict[str, set[str]] = {}
        for holder in lease_holders(self.servers, GROUP):
            found.setdefault(holder.topic, set()).add(holder.job)
        return found

    def committed(self, code: str) -> int:
        """Return how many records of a country are behind a checkpoint."""
        return sum(committed_offsets(self.servers, GROUP, raw_topic(code).name).values())

    def await_more(self, what: str) -> None:
        """Wait until each job has got further, and say how long that took."""
        began, before = time.monotonic(), {code: self.committed(code) for code in COUNTRIES}
        for code in COUNTRIES:
            await_until(
                lambda code=code: self.committed(code) > before[code] + RECORDS_PER_SECOND,
                START_TIMEOUT_S,
                f"{code} goes on after {what}",
            )
        self.say(f"{what}: {time.monotonic() - began:.1f} s until all jobs have committed more")

    def say(self, line: str) -> None:
        """Print a line, although the output of commands is captured."""
        with self._capsys.disabled():
            print(line, flush=True)


@pytest.fixture
def life(tmp_path: Path, orion_beam: Command, capsys: pytest.CaptureFixture[str]) -> Iterator[Life]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "jars").symlink_to(orion_home() / "jars")
    with ExitStack() as scene:
        broker = scene.enter_context(LocalKafka(tmp_path / "kafka", brokers=3))
        create_topics(broker.bootstrap_servers, list(COUNTRIES), PRODUCTION)
        s3 = scene.enter_context(s3_in(tmp_path / "s3"))
        cluster = scene.enter_context(highly_available(tmp_path, s3, SLOTS, SESSION_MS))
        pools = [
            scene.enter_context(workers(tmp_path / f"workers-{number}.log", free_ports(1)[0])) for number in (1, 2)
        ]
        scene.enter_context(pytest.MonkeyPatch.context()).setenv("ORION_HOME", str(home))
        first, second = (Place(broker.bootstrap_servers, cluster, pool, tmp_path) for pool in pools)
        yield Life((first, second), orion_beam, capsys)


@contextmanager
def grown_feed(servers: str, topic: str) -> Iterator[Feed]:
    """Yield a second feed of TN, begun when its producer can know all partitions of the topic."""
    await_until(
        lambda: len(admin_client(servers).list_topics(topic).topics[topic].partitions) == MORE_PARTITIONS,
        START_TIMEOUT_S,
        "the brokers name the new partitions",
    )
    feed = Feed(servers)
    with feed.flowing("TN", RECORDS_PER_SECOND):
        yield feed


def test_four_jobs_live_through_all_that_happens_to_them(life: Life, tmp_path: Path) -> None:
    names = {code: f"orion-{GROUP}-{code}" for code in COUNTRIES}
    cluster, feed = life.cluster, Feed(life.servers)
    with ExitStack() as feeds:
        for code in COUNTRIES:
            feeds.enter_context(feed.flowing(code, RECORDS_PER_SECOND))
        began = time.monotonic()
        for codes, place in life.places.items():
            place.submitted("--countries", ",".join(codes), "--split-by-country")
            if codes == POOLS[0]:
                await_until(lambda: records_on(life.servers, FINAL.name), START_TIMEOUT_S, "the first record is out")
                life.say(f"{time.monotonic() - began:.1f} s from the command to the first record")
        assert set(life.job_ids()) == set(names.values())

        # Who submits may die, and is told of the job that runs when it comes again.
        assert life.jobs("cancel", names["SN"], "--yes").code == 0
        await_until(lambda: raw_topic("SN").name not in life.readers(), START_TIMEOUT_S, "the lease is free")
        log = tmp_path / "attached.log"
        with log.open("wb") as out:
            submitter = subprocess.Popen(
                life.place("SN").command("--countries", "SN", "--attached"),
                stdout=out,
                stderr=out,
                env=os.environ | guard_environment(),
            )
        await_until(lambda: "attached to job" in log.read_text(), START_TIMEOUT_S, "it is attached")
        submitter.send_signal(signal.SIGKILL)
        submitter.wait()
        orphan = life.job_ids()[names["SN"]]
        assert f"job {orphan} ({names['SN']}, version " in life.place("SN").refused("--countries", "SN")

        scaled = life.jobs("scale", names["FR"], "--parallelism", 2)
        assert scaled.code == 0, scaled.err
        life.await_more("FR is scaled to 2")

        topic, began, admin = raw_topic("TN").name, time.monotonic(), admin_client(life.servers)
        for done in admin.create_partitions([NewPartitions(topic, MORE_PARTITIONS)]).values():
            done.result()
        grown = feeds.enter_context(grown_feed(life.servers, topic))
        await_until(
            lambda: len(committed_offsets(life.servers, GROUP, topic)) == MORE_PARTITIONS,
            START_TIMEOUT_S,
            "all partitions are read",
        )
        life.say(f"{time.monotonic() - began:.1f} s until all partitions of TN are read")

        place = life.place("TN")
        (upgraded,) = place.submitted("--countries", "TN", "--tag-partials", "--replace")
        assert life.job_ids()[names["TN"]] == upgraded["id"]
        assert str(place.restored(upgraded["id"])).startswith("s3://")
        life.await_more("TN is upgraded")

        place, cells = life.place("MA"), tmp_path / "cells-of-one-host.csv"
        shutil.copyfile(CELLS, cells)
        broken = tmp_path / "broken.jar"
        assert place.submit("--countries", "MA", "--to-jar", str(broken), "--cells", str(cells)).returncode == 0
        cells.unlink()
        failed = life.jobs("upgrade", names["MA"], "--jar", broken)
        assert failed.code == 1, failed.err
        assert life.job_ids()[names["MA"]] in failed.err
        life.await_more("MA is rolled back")

        before = life.job_ids()
        for loss in range(1, TASK_MANAGERS_LOST + 1):
            number = 1 + loss % 2
            cluster.kill_task_manager(number)
            cluster.start_task_manager(number)
            life.await_more(f"TaskManager {number}, loss {loss}")
        for loss in range(1, LEADERS_LOST + 1):
            leader = cluster.leader
            assert leader is not None
            cluster.kill_job_manager(leader)
            await_until(lambda leader=leader: cluster.leader == 3 - leader, START_TIMEOUT_S, "the other one leads")
            cluster.start_job_manager(leader)
            life.await_more(f"JobManager {leader}, loss {loss}")
        assert life.job_ids() == before

    feed.expected |= grown.expected
    sent = Counter(source.topic for source in feed.expected)
    for code, topic in zip(COUNTRIES, TOPICS, strict=True):
        await_until(
            lambda code=code, topic=topic: life.committed(code) == sent[topic], START_TIMEOUT_S, f"{code} is read"
        )
    assert life.job_ids() == before
    readers = [job for jobs in life.readers().values() for job in jobs]
    assert len(set(readers)) == len(readers) == len(COUNTRIES), "each topic is read by a job of its own"
    report = conservation(life.servers, TOPICS)
    assert report.records == len(feed.expected)
    assert report.holds, report.problems
    written = records_on(life.servers, FINAL.name, DEAD_LETTERS.name)
    life.say(f"{len(feed.expected):,} records in, {written - len(feed.expected):,} of them written more than once")
