"""The life of a job on a Flink cluster: scaled, upgraded, rolled back, stopped and started again, under load.

A record that comes out twice, or not at all, shows by its source's offset: one job after the other takes over exactly
where the one before has stopped.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orion_beam.defaults import CELLS
from orion_beam.jobs.events import JobAction, JobEvent
from orion_beam.jobs.history import read_history
from orion_beam.proof.audit import conservation
from orion_beam.runners.cluster.job_jar import MANIFEST_PATH, JobManifest
from orion_beam.runners.cluster.kept_jars import kept_jar
from orion_beam.runners.jars.build import orion_home
from orion_beam.runners.local.broker import free_ports
from orion_beam.runners.local.flink import LocalFlink
from tests.command import Answer, Command
from tests.integration.harness import (
    START_TIMEOUT_S,
    Feed,
    Source,
    await_until,
    committed_offsets,
    kafka_in,
    outcomes,
)
from tests.integration.test_cluster import workers
from tests.integration.test_submit import Scene
from tests.topics import raw_topic

pytestmark = [pytest.mark.integration, pytest.mark.deep, pytest.mark.timeout(1800)]

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


class Place(Scene):
    """A cluster with workers and a broker, and an ORION_HOME of its own, in which the jars of jobs are kept."""

    @property
    def options(self) -> list[str]:
        """Options of `orion-beam jobs` that name this place."""
        return ["--flink", self.flink.address, "--bootstrap-servers", self.servers]

    @property
    def savepoints(self) -> list[str]:
        """Option that names a place for savepoints."""
        return ["--savepoint-dir", f"{self.directory}/savepoints"]

    def jar(self, name: str, *options: str, beam: Sequence[str] = ()) -> Path:
        """Write the jar of a version of the job, once."""
        path = self.directory / f"{name}.jar"
        if not path.exists():
            done = self.submit("--countries", COUNTRY, "--to-jar", str(path), *options, beam=beam)
            assert done.returncode == 0
        return path

    def broken_jar(self) -> Path:
        """Write the jar of a version whose worker pool does not answer."""
        (port,) = free_ports(1)
        return self.jar("broken", "--detect-gaps", beam=[f"--environment_config=127.0.0.1:{port}"])

    def running_job(self) -> str:
        """Return the id of the job that runs; submit it if none does."""
        if not self.running:
            self.submitted("--countries", COUNTRY, "--detect-gaps")
        (job_id,) = self.running
        return job_id

    def history(self) -> list[JobEvent]:
        """Return the history of the job, in its order."""
        return read_history(self.servers, NAME)

    def actions(self) -> list[str]:
        """Return what has happened to the job, in its order."""
        return [event.action.value for event in self.history()]

    def came_out(self) -> Counter[Source]:
        """Count the outputs of each record."""
        return outcomes(self.servers, raw_topic(COUNTRY).name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("jobs")
    home = directory / "home"
    home.mkdir()
    (home / "jars").symlink_to(orion_home() / "jars")
    (metrics_port,) = free_ports(1)
    with (
        kafka_in(directory / "kafka") as broker,
        LocalFlink(directory / "flink", slots=3) as flink,
        workers(directory / "workers.log", metrics_port) as pool,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("ORION_HOME", str(home))
        yield Place(broker.bootstrap_servers, flink, pool, directory)


@pytest.fixture
def jobs(orion_beam: Command, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that calls `orion-beam jobs`. Its answer has nothing of what was printed before."""

    def call(*words: object) -> Answer:
        capsys.readouterr()
        return orion_beam("jobs", *words)

    return call


def once(place: Place) -> int:
    """Return how many records have come out; each has done so once."""
    found = place.came_out()
    assert not {source: count for source, count in found.items() if count > 1}
    return len(found)


def test_a_job_lives_through_changes_and_each_record_comes_out_once(place: Place, jobs: Command) -> None:
    feed = Feed(place.servers)
    with feed.flowing(COUNTRY, RECORDS_PER_SECOND):
        (submitted,) = place.submitted("--countries", COUNTRY, "--detect-gaps")
        job_id, first = submitted["id"], submitted["configuration"]
        await_until(place.came_out, START_TIMEOUT_S, "the first record is out")
        heads = {vertex["id"] for vertex in place.flink.rest.get(f"jobs/{job_id}")["vertices"]}
        assert heads <= {murmur3_128(name.encode()).hex() for name in place.history()[-1].states}

        listed = json.loads(jobs("ls", *place.options, "--json").out)
        assert [(job["id"], job["name"], job["state"]) for job in listed] == [(job_id, NAME, "RUNNING")]
        assert (listed[0]["version"], listed[0]["configuration"]) == (submitted["version"], first)

        scaled = jobs("scale", job_id[:8], "--parallelism", 2, *place.options, *place.savepoints)
        assert scaled.code == 0, scaled.err
        assert "is scaled" in scaled.out
        shown = json.loads(jobs("show", NAME, *place.options, "--json").out)
        assert shown["parallelism"] == 2
        assert shown["checkpoints"]["restored_from"].startswith(f"file:{place.directory}/savepoints/")
        assert [event["action"] for event in shown["history"]] == [
            "submitted", "running", "stopped", "submitted", "scaled",
        ]  # fmt: skip

        options = ("--countries", COUNTRY, "--detect-gaps", "--tag-partials", "--replace", *place.savepoints)
        (upgraded,) = place.submitted(*options)
        assert place.running_job() == upgraded["id"]
        second = upgraded["configuration"]
        assert second != first
        back = jobs("rollback", NAME, *place.options, *place.savepoints, "--json")
        assert back.code == 0, back.err
        assert (json.loads(back.out)["configuration"], json.loads(back.out)["parallelism"]) == (first, 2)

        stopped = jobs("stop", NAME, *place.options, *place.savepoints)
        assert stopped.code == 0, stopped.err
        assert stopped.out.startswith(f"file:{place.directory}/savepoints/")
        assert not place.running
        committed = sum(committed_offsets(place.servers, GROUP, raw_topic(COUNTRY).name).values())
        assert once(place) == committed, "what has come out is what is committed"

        # Without the savepoint, the group's offsets are where the job goes on.
        (again,) = place.submitted("--countries", COUNTRY, "--detect-gaps")
        assert place.restored(again["id"]) is None
    await_until(lambda: len(place.came_out()) == len(feed.expected), START_TIMEOUT_S, "all are out")
    assert once(place) == len(feed.expected)
    assert place.actions() == [
        "submitted", "running",
        "stopped", "submitted", "scaled",
        "stopped", "submitted", "upgraded",
        "stopped", "submitted", "rolled back",
        "stopped",
        "submitted", "running",
    ]  # fmt: skip


def test_a_stop_that_is_broken_off_is_in_the_history_when_it_is_asked_for_again(place: Place, jobs: Command) -> None:
    job_id = place.running_job()

    def interrupted_and_killed(*_: object) -> None:
        # The interrupt waits for the note, or the exit code would be 130.
        signal.raise_signal(signal.SIGINT)
        raise SystemExit(137)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orion_beam.cli.jobs.note_event", interrupted_and_killed)
        assert jobs("stop", job_id, *place.options, *place.savepoints).code == 137
    assert not place.running
    history = place.actions()
    assert history[-1] != "stopped"
    first, second = (jobs("stop", job_id, *place.options) for _ in range(2))
    assert (first.code, second.code) == (0, 0), (first, second)
    assert first.out == second.out
    assert place.actions() == [*history, "stopped"]
    assert (place.history()[-1].job_id, place.history()[-1].savepoint) == (job_id, first.out.strip())


def test_an_upgrade_that_fails_leaves_the_old_version_running(place: Place, jobs: Command) -> None:
    job_id = place.running_job()
    broken = place.broken_jar()
    feed = Feed(place.servers)
    before = len(place.came_out())
    with feed.flowing(COUNTRY, RECORDS_PER_SECOND):
        failed = jobs("upgrade", NAME, "--jar", broken, *place.options, *place.savepoints)
        assert failed.code == 1, failed.err
        assert re.search(r"given up: job .* has failed [0-9]+ times for the same reason", failed.err)
        assert "refused" in failed.err
        assert place.running_job() != job_id
        assert place.running_job() in failed.err
    await_until(lambda: len(place.came_out()) == before + len(feed.expected), START_TIMEOUT_S, "all are out")
    report = conservation(place.servers, [raw_topic(COUNTRY).name])
    assert report.holds, report.problems
    assert place.actions()[-5:] == ["stopped", "submitted", "failed", "submitted", "rolled back"]
    assert "refused" in (place.history()[-1].reason or "")
    shown = json.loads(jobs("show", NAME, *place.options, "--json").out)
    assert shown["history"][-1]["action"] == "rolled back"
    logs = jobs("logs", NAME, "--flink", place.flink.address)
    assert logs.code == 0, logs.err
    assert "--- jobmanager" in logs.out


def test_an_upgrade_whose_stages_fail_at_the_first_record_leaves_the_old_version_running(
    place: Place, jobs: Command, tmp_path: Path
) -> None:
    place.running_job()
    feed, cells = Feed(place.servers), tmp_path / "cells-of-one-host.csv"
    shutil.copyfile(CELLS, cells)
    broken = place.jar("without-cells", "--detect-gaps", "--cells", str(cells))
    cells.unlink()
    with feed.flowing(COUNTRY, RECORDS_PER_SECOND):
        failed = jobs("upgrade", NAME, "--jar", broken, *place.options, *place.savepoints)
    assert failed.code == 1, failed.err
    assert f"reference data {cells}" in failed.err
    assert place.running_job() in failed.err
    assert place.actions()[-1] == "rolled back"


def test_an_upgrade_that_is_interrupted_leaves_the_old_version_running(place: Place) -> None:
    place.running_job()
    before = place.history()[-1]
    broken = place.broken_jar()
    words = ["jobs", "upgrade", NAME, "--jar", str(broken), *place.options, *place.savepoints]
    command = [sys.executable, "-m", "orion_beam.cli.main", *words]
    lines = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as upgrade:
        assert upgrade.stderr is not None
        for line in upgrade.stderr:
            lines.append(line)
            if line.startswith("starting from savepoint"):
                upgrade.send_signal(signal.SIGINT)
    assert upgrade.returncode == 130, lines
    assert "the new version is given up: interrupted\n" in lines
    after = place.history()[-1]
    assert (after.action, after.jar, after.reason) == (JobAction.ROLLED_BACK, before.jar, "interrupted")
    assert place.running_job() == after.job_id


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
    place: Place, jobs: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = place.running_job()
    present = kept_jar(NAME, place.history()[-1].jar)
    assert present is not None
    without_state = place.jar("without-state")
    of_another_group = changed(present, place.directory / "group.jar", group="other", name="orion-other-SN")
    history = place.actions()
    for words, says in (
        (
            ["upgrade", NAME, "--jar", without_state, *place.savepoints],
            "ToShards.* is gone, or has another name.*--from-offsets",
        ),
        (["upgrade", NAME, "--jar", of_another_group], "is of another job: its consumer group is other"),
        (["upgrade", NAME, "--jar", place.directory / "none.jar"], "none.jar: No such file"),
        (["upgrade", "orion-nobody", "--jar", present], "there is no job orion-nobody on the cluster"),
        (["scale", NAME, "--parallelism", 64], r"[12] of 3 slots free on 1 task managers, 6[23] needed"),
        (["scale", NAME, "--parallelism", 1], "runs at 1 already"),
        (["stop", NAME], "--savepoint-dir: the cluster has no directory for savepoints"),
    ):
        refused = jobs(*words, *place.options)
        assert refused.code == 2, refused
        assert len(refused.err.strip().splitlines()) == 1
        assert re.search(says, refused.err), refused.err
    savepoint = next(event.savepoint for event in place.history() if event.action is JobAction.STOPPED)
    assert savepoint is not None
    refused_line = place.refused("--countries", COUNTRY, "--allow-second-job", "--from-savepoint", savepoint)
    assert f"savepoint {savepoint} of job" in refused_line
    assert "is of another graph than this job" in refused_line
    monkeypatch.setenv("ORION_TOPIC_PREFIX", "none.")
    refused = jobs("cancel", NAME, *place.options, "--yes")
    assert refused.code == 2
    assert "has no topic none.orion.jobs: create it with `orion-beam topics apply`" in refused.err
    monkeypatch.delenv("ORION_TOPIC_PREFIX")
    assert place.running_job() == job_id
    assert place.actions() == history

    # Without a place for savepoints, the other version goes on from the committed offsets.
    feed = Feed(place.servers)
    before = len(place.came_out())
    feed.send_generated(COUNTRY, 500, seed=1)
    feed.flush()
    upgraded = jobs("upgrade", NAME, "--jar", without_state, *place.options)
    assert upgraded.code == 0, upgraded.err
    why = "the cluster has no directory for savepoints (--savepoint-dir)"
    assert f"starting from the committed offsets of group {GROUP}: {why}" in upgraded.err
    await_until(lambda: len(place.came_out()) == before + 500, START_TIMEOUT_S, "all are out")
    job_id, history = place.running_job(), place.actions()
    assert history[-3:] == ["cancelled", "submitted", "upgraded"]
    assert why in (place.history()[-1].reason or "")

    cancelled = jobs("cancel", NAME, *place.options, "--yes", "--json")
    assert cancelled.code == 0, cancelled.err
    assert json.loads(cancelled.out)["job"] == job_id
    assert not place.running
    assert place.actions() == [*history, "cancelled"]
    again = jobs("cancel", NAME, *place.options, "--yes")
    assert again.code == 2
    assert "has ended already: it is CANCELED" in again.err
