"""The life of a job on a Flink cluster: scaled, upgraded, rolled back, stopped and started again, under load.

A record that comes out twice, or not at all, shows by its source's offset: one job after the other takes over exactly
where the one before has stopped.
"""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orion_beam.config import JobConfig, KafkaSink, KafkaSource
from orion_beam.jobs.events import JobAction
from orion_beam.jobs.history import read_history, record_event
from orion_beam.proof.audit import conservation
from orion_beam.runners.cluster.job_jar import MANIFEST_PATH, JobManifest, graph_of, write_job_jar
from orion_beam.runners.cluster.replace import await_checkpoint, launch
from orion_beam.runners.jars.build import ensure_jars, orion_home
from orion_beam.runners.local.broker import free_ports
from orion_beam.runners.local.flink import LocalFlink
from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.derive import avro_schema
from tests.command import Command
from tests.integration.harness import (
    FREQUENT_CHECKPOINTS,
    START_TIMEOUT_S,
    Feed,
    await_until,
    committed_offsets,
    kafka_in,
    outcomes,
    records_on,
)
from tests.integration.test_cluster import workers
from tests.topics import FINAL, raw_topic

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

COUNTRY = "SN"
GROUP = "orion-beam"
NAME = f"orion-{GROUP}-{COUNTRY}"
RECORDS_PER_SECOND = 200


def murmur3_128(data: bytes) -> bytes:
    """Return the hash by which Flink makes the id of an operator from its name (MurmurHash3, x64, 128 bits, seed 0)."""
    mask, c1, c2 = (1 << 64) - 1, 0x87C37B91114253D5, 0x4CF5AD432745937F

    def turned(value: int, bits: int) -> int:
        return ((value << bits) | (value >> (64 - bits))) & mask

    def mixed(value: int) -> int:
        value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & mask
        value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & mask
        return value ^ value >> 33

    def first(value: int) -> int:
        return turned(value * c1 & mask, 31) * c2 & mask

    def second(value: int) -> int:
        return turned(value * c2 & mask, 33) * c1 & mask

    h1 = h2 = 0
    whole = len(data) // 16 * 16
    for at in range(0, whole, 16):
        h1 ^= first(int.from_bytes(data[at : at + 8], "little"))
        h1 = ((turned(h1, 27) + h2) * 5 + 0x52DCE729) & mask
        h2 ^= second(int.from_bytes(data[at + 8 : at + 16], "little"))
        h2 = ((turned(h2, 31) + h1) * 5 + 0x38495AB5) & mask
    h1 ^= first(int.from_bytes(data[whole : whole + 8], "little")) ^ len(data)
    h2 ^= second(int.from_bytes(data[whole + 8 :], "little")) ^ len(data)
    h1 = (h1 + h2) & mask
    h2 = (h2 + h1) & mask
    h1, h2 = mixed(h1), mixed(h2)
    h1 = (h1 + h2) & mask
    h2 = (h2 + h1) & mask
    return h1.to_bytes(8, "little") + h2.to_bytes(8, "little")


@dataclass(frozen=True)
class Place:
    """A cluster with workers, a broker, and the jars of a job's versions."""

    cluster: LocalFlink
    kafka: LocalKafka
    workers: str
    directory: Path

    @property
    def servers(self) -> str:
        return self.kafka.bootstrap_servers

    @property
    def options(self) -> list[str]:
        """Options of `orion-beam jobs` that name this place."""
        return ["--flink", self.cluster.address, "--bootstrap-servers", self.servers]

    @property
    def savepoints(self) -> list[str]:
        return ["--savepoint-dir", str(self.directory / "savepoints")]

    def jar(self, version: str, **options: Any) -> Path:
        """Write the jar of a version of the job."""
        path = self.directory / f"{version}.jar"
        config = JobConfig.model_validate(
            {
                "countries": (COUNTRY,),
                "source": KafkaSource(
                    bootstrap_servers=self.servers,
                    group_id=GROUP,
                    expansion_service=str(ensure_jars().expansion_service),
                ),
                "sink": KafkaSink(bootstrap_servers=self.servers),
                "wire_prefix": single_object_header(avro_schema(UnifiedCdr)),
                "detect_gaps": True,
                **options,
            }
        )
        beam = [
            f"--flink_master={self.cluster.address}",
            "--environment_type=EXTERNAL",
            f"--environment_config={self.workers}",
            "--parallelism=1",
            FREQUENT_CHECKPOINTS,
        ]
        write_job_jar(config, beam, path)
        return path

    def submit(self, jar: Path) -> str:
        """Start a job; return its id when its first checkpoint is complete."""
        event = launch(jar, self.cluster.address, self.servers)
        await_checkpoint(self.cluster.address, event, START_TIMEOUT_S)
        record_event(self.servers, event.then(JobAction.RUNNING))
        return event.job_id

    def running(self) -> list[Mapping[str, Any]]:
        """Return the jobs that run."""
        return [job for job in self.cluster.rest.get("jobs/overview")["jobs"] if job["state"] == "RUNNING"]

    def actions(self) -> list[str]:
        """Return what the history says, in its order."""
        return [event.action.value for event in read_history(self.servers, NAME)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("jobs")
    with ExitStack() as stack:
        home = stack.enter_context(pytest.MonkeyPatch.context())
        cluster = stack.enter_context(LocalFlink(directory / "flink", slots=2))
        kafka = stack.enter_context(kafka_in(directory / "kafka"))
        (port,) = free_ports(1)
        address = stack.enter_context(workers(directory / "workers.log", port))
        home.setenv("ORION_HOME", str(_home_with_jars(directory / "home")))
        yield Place(cluster, kafka, address, directory)


def _home_with_jars(home: Path) -> Path:
    """Return an ORION_HOME of this test's own, with the jars that are built already."""
    home.mkdir()
    (home / "jars").symlink_to(orion_home() / "jars")
    return home


def once(place: Place) -> int:
    """Return how many records have come out; each has done so once."""
    found = outcomes(place.servers, raw_topic(COUNTRY).name)
    twice = {source: count for source, count in found.items() if count > 1}
    assert not twice
    return len(found)


def test_a_job_lives_through_changes_and_each_record_comes_out_once(place: Place, orion_beam: Command) -> None:
    first = place.jar("first")
    second = place.jar("second", tag_partials=True)
    feed = Feed(place.servers)
    with feed.flowing(COUNTRY, RECORDS_PER_SECOND):
        job_id = place.submit(first)
        await_until(lambda: records_on(place.servers, FINAL.name) > 0, START_TIMEOUT_S, "the first record is out")
        ids = {vertex["id"] for vertex in place.cluster.rest.get(f"jobs/{job_id}")["vertices"]}
        heads = {murmur3_128(name.encode()).hex() for name in graph_of(first)}
        assert ids <= heads, "the fingerprint names the operators as Flink does"

        listed = json.loads(orion_beam("jobs", "ls", *place.options, "--json").out)
        assert [(job["id"], job["name"], job["state"]) for job in listed] == [(job_id, NAME, "RUNNING")]
        assert listed[0]["version"] == JobManifest.of(first).version

        scaled = orion_beam("jobs", "scale", job_id[:8], "--parallelism", 2, *place.options, *place.savepoints)
        assert scaled.code == 0, scaled.err
        assert "is scaled" in scaled.out
        shown = json.loads(orion_beam("jobs", "show", NAME, *place.options, "--json").out)
        assert shown["parallelism"] == 2
        assert shown["checkpoints"]["restored_from"].startswith(f"file:{place.directory}/savepoints/")
        assert [event["action"] for event in shown["history"]] == [
            "submitted", "running", "stopped", "submitted", "scaled",
        ]  # fmt: skip

        upgraded = orion_beam("jobs", "upgrade", NAME, "--jar", second, *place.options, *place.savepoints, "--json")
        assert upgraded.code == 0, upgraded.err
        assert json.loads(upgraded.out)["configuration"] == JobManifest.of(second).configuration
        back = orion_beam("jobs", "rollback", NAME, *place.options, *place.savepoints, "--json")
        assert back.code == 0, back.err
        assert json.loads(back.out)["configuration"] == JobManifest.of(first).configuration
        assert json.loads(back.out)["parallelism"] == 2

        stopped = orion_beam("jobs", "stop", NAME, *place.options, *place.savepoints)
        assert stopped.code == 0, stopped.err
        assert stopped.out.startswith(f"file:{place.directory}/savepoints/")
        assert not place.running()
        committed = sum(committed_offsets(place.servers, GROUP, raw_topic(COUNTRY).name).values())
        assert once(place) == committed, "what has come out is what is committed"

        # Without the savepoint, the group's offsets are where it goes on.
        place.submit(second)
    total = len(feed.expected)
    await_until(lambda: len(outcomes(place.servers, raw_topic(COUNTRY).name)) == total, START_TIMEOUT_S, "all are out")
    assert once(place) == total
    assert place.actions() == [
        "submitted", "running",
        "stopped", "submitted", "scaled",
        "stopped", "submitted", "upgraded",
        "stopped", "submitted", "rolled back",
        "stopped",
        "submitted", "running",
    ]  # fmt: skip


def test_an_upgrade_that_fails_leaves_the_old_version_running(place: Place, orion_beam: Command) -> None:
    """It runs after the test above, whose job it takes."""
    (job,) = place.running()
    broken = place.jar("broken", cells=str(place.directory / "no-such-cells.csv"))
    feed = Feed(place.servers)
    before = len(outcomes(place.servers, raw_topic(COUNTRY).name))
    with feed.flowing(COUNTRY, RECORDS_PER_SECOND):
        failed = orion_beam("jobs", "upgrade", NAME, "--jar", broken, *place.options, *place.savepoints)
        assert failed.code == 1, failed.err
        assert "the new version was given up: it has failed 3 times for the same reason" in failed.err
        assert "no-such-cells.csv" in failed.err
        (now,) = place.running()
        assert now["jid"] != job["jid"]
        assert now["jid"] in failed.err
    await_until(
        lambda: len(outcomes(place.servers, raw_topic(COUNTRY).name)) == before + len(feed.expected),
        START_TIMEOUT_S,
        "all are out",
    )
    report = conservation(place.servers, [raw_topic(COUNTRY).name])
    assert report.holds, report.problems
    assert place.actions()[-5:] == ["stopped", "submitted", "failed", "submitted", "rolled back"]
    shown = orion_beam("jobs", "show", NAME, *place.options).out
    assert "no-such-cells.csv" in shown.replace("\n", "")
    logs = orion_beam("jobs", "logs", NAME, *place.options)
    assert logs.code == 0, logs.err
    assert "jobmanager" in logs.out


def changed(jar: Path, path: Path, **manifest: Any) -> Path:
    """Copy what a jar says of its job, without the classes, and with another manifest."""
    about = JobManifest.of(jar).model_copy(update=manifest)
    with zipfile.ZipFile(jar) as source, zipfile.ZipFile(path, "w") as copy:
        for entry in source.infolist():
            if entry.filename.startswith("BEAM-PIPELINE"):
                copy.writestr(entry, source.read(entry))
        copy.writestr(MANIFEST_PATH, about.model_dump_json())
    return path


def test_what_cannot_work_is_refused_before_anything_is_changed(
    place: Place, orion_beam: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs after the tests above, whose job it leaves alone until the end."""
    (job,) = place.running()
    first = place.directory / "first.jar"
    without_state = place.jar("without-state", detect_gaps=False)
    of_another_group = changed(first, place.directory / "group.jar", group="other", name="orion-other-SN")
    too_wide = changed(first, place.directory / "wide.jar", parallelism=64)
    history = place.actions()
    for words, says in (
        (["upgrade", NAME, "--jar", without_state], "ToShards.* is gone, or has another name.*--from-offsets"),
        (["upgrade", NAME, "--jar", of_another_group], "is of another job: its consumer group is other"),
        (["upgrade", NAME, "--jar", too_wide], "parallelism 64 needs as many slots, and 2 will be free"),
        (["upgrade", NAME, "--jar", place.directory / "none.jar"], "none.jar: No such file"),
        (["upgrade", "orion-nobody", "--jar", first], "there is no job orion-nobody on the cluster"),
        (["scale", NAME, "--parallelism", 64], "parallelism 64 needs as many slots"),
        (["stop", NAME], "--savepoint-dir: the cluster has no directory for savepoints"),
    ):
        refused = orion_beam("jobs", *words, *place.options)
        assert refused.code == 2, refused
        assert len(refused.err.strip().splitlines()) == 1
        assert re.search(says, refused.err), refused.err
    monkeypatch.setenv("ORION_TOPIC_PREFIX", "none.")
    refused = orion_beam("jobs", "cancel", NAME, *place.options, "--yes")
    assert refused.code == 2
    assert "has no topic none.orion.jobs: create it with `orion-beam topics apply`" in refused.err
    monkeypatch.delenv("ORION_TOPIC_PREFIX")
    assert [each["jid"] for each in place.running()] == [job["jid"]]
    assert place.actions() == history

    cancelled = orion_beam("jobs", "cancel", NAME, *place.options, "--yes", "--json")
    assert cancelled.code == 0, cancelled.err
    assert json.loads(cancelled.out)["job"] == job["jid"]
    assert not place.running()
    assert place.actions() == [*history, "cancelled"]
    again = orion_beam("jobs", "cancel", NAME, *place.options, "--yes")
    assert again.code == 2
    assert "has ended already: it is CANCELED" in again.err
