"""Replay on a real Kafka: what the stream made of a range, made again; through kills, gaps and deleted starts."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fastavro
import psutil
import pyarrow.dataset as ds
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

import orion_beam
from orion_beam.defaults import PROFILES_DIRECTORY
from orion_beam.kafka.offset_ranges import offset_ranges
from orion_beam.runners.jars.build import orion_home
from orion_beam.runners.local.development import LocalKafka
from orion_beam.schemas.cdr import UnifiedCdr
from tests.integration.harness import (
    Feed,
    Record,
    Source,
    StartJob,
    avro_reader,
    await_all_out,
    await_until,
    kafka_in,
    outcomes,
    read_topic,
    source_of_letter,
    source_of_record,
)
from tests.topics import DEAD_LETTERS, FINAL, raw_topic

pytestmark = pytest.mark.integration

REPLAY_TIMEOUT_S = 600.0
RECORDS = 60_000
"""Some chunks for one worker."""
# What says when, or by which run, a record was made.
OF_THE_RUN = {"run_id", "orion.run_id", "orion.failed_at"}


PROGRESS = """
import json, sys
from pathlib import Path
from orion_beam.replay.runs import Run
from orion_beam.runners.flink import flink_arguments, run_flink_bounded
from orion_beam.runners.jars.build import ensure_jars

run = Run.load(Path(sys.argv[1]), sys.argv[2])
arguments = flink_arguments(ensure_jars(print), run.replay.beam_arguments, bounded=True)
told = []
run_flink_bounded(run.job_of(run.replay.lanes), arguments, told.append)
print(json.dumps(told))
"""


class Replays:
    """`orion-beam replay` as a user runs it, with an ORION_HOME of its own: no replay needs Java."""

    def __init__(self, servers: str, home: Path) -> None:
        self.servers = servers
        self.home = home

    def command(self, *arguments: object) -> dict[str, Any]:
        return {
            "args": [sys.executable, "-m", "orion_beam.cli.main", "replay", *map(str, arguments)],
            "env": os.environ | {"ORION_HOME": str(self.home)},
            "text": True,
        }

    def run(self, *arguments: object, code: int = 0, beam: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        given = () if "--resume" in arguments else ("--bootstrap-servers", self.servers)
        # Behind them, since the first may be a subcommand.
        done = subprocess.run(
            **self.command(*arguments, *given, *(["--", *beam] if beam else [])),
            capture_output=True,
            timeout=REPLAY_TIMEOUT_S,
        )
        assert done.returncode == code, done.stderr
        return done

    def report(self, *arguments: object, beam: Sequence[str] = ()) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*arguments, "--json", beam=beam).stdout)
        return found

    @contextmanager
    def started(self, *arguments: object) -> Iterator[psutil.Popen]:
        with (self.home / "replay.log").open("w") as log:
            process = psutil.Popen(
                **self.command("--bootstrap-servers", self.servers, *arguments), stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def done(self, run_id: str) -> int:
        return len(list((self.home / "runs" / run_id / "done").glob("*.json")))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    with kafka_in(tmp_path_factory.mktemp("replay") / "kafka") as kafka:
        yield kafka


@pytest.fixture
def replays(broker: LocalKafka, tmp_path: Path) -> Replays:
    return Replays(broker.bootstrap_servers, tmp_path)


def finals(records: list[Record]) -> dict[Source, dict[str, Any]]:
    read = avro_reader(UnifiedCdr)
    rows = [read(record.payload) for record in records]
    found = {source_of_record(row): without_run(row) for row in rows}
    assert len(found) == len(rows)
    return found


def letters(records: list[Record]) -> dict[Source, tuple[Any, ...]]:
    found = {}
    for letter in records:
        headers = without_run(dict(letter.headers))
        found[source_of_letter(letter)] = (letter.key, letter.value, headers)
    assert len(found) == len(records)
    return found


def without_run(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in OF_THE_RUN}


def test_a_replay_makes_of_a_range_what_the_stream_made_of_it(
    broker: LocalKafka, replays: Replays, start_job: StartJob
) -> None:
    servers = broker.bootstrap_servers
    feed = Feed(servers)
    feed.send_generated("TN", 3_000, seed=5, fault_rate=0.1)
    feed.flush()
    job = start_job(servers, "--countries", "TN")
    await_all_out(job, servers, feed)
    job.clean_up()
    create(servers, "again.final", "again.dlq")

    report = replays.report(
        "--countries", "TN", "--last", "1d", "--to-topic", "again.final", "--dead-letter-topic", "again.dlq",
        "--run-id", "again",
    )  # fmt: skip

    assert report["records"] == len(feed.expected)
    assert_report_says(report, feed, ["again.final", "again.dlq"])
    streamed, replayed = read_topic(servers, FINAL.name), read_topic(servers, "again.final")
    assert finals(replayed) == finals(streamed)
    assert letters(read_topic(servers, "again.dlq")) == letters(read_topic(servers, DEAD_LETTERS.name))
    read = avro_reader(UnifiedCdr)
    assert {read(record.payload)["run_id"] for record in replayed} == {"again"}
    assert {letter.header("orion.run_id") for letter in read_topic(servers, "again.dlq")} == {"again"}
    assert by_key(replayed) == by_key(streamed), "a subscriber's records are in another order, or partition"

    (replays.home / "jars").symlink_to(orion_home() / "jars")
    create(servers, "flink.final", "flink.dlq")
    report = replays.report(
        "--countries", "TN", "--last", "1d", "--to-topic", "flink.final", "--dead-letter-topic", "flink.dlq",
        beam=["--runner=FlinkRunner"],
    )  # fmt: skip
    assert report["records"] == len(feed.expected)
    on_flink = read_topic(servers, "flink.final")
    assert finals(on_flink) == finals(streamed)
    assert letters(read_topic(servers, "flink.dlq")) == letters(read_topic(servers, DEAD_LETTERS.name))
    assert by_key(on_flink) == by_key(streamed)
    # Once more, in a process that notes how it is told of its progress.
    noted = subprocess.run(
        [sys.executable, "-c", PROGRESS, str(replays.home / "runs"), report["run_id"]],
        env=os.environ | {"ORION_HOME": str(replays.home)},
        capture_output=True,
        text=True,
        timeout=REPLAY_TIMEOUT_S,
    )
    assert noted.returncode == 0, noted.stderr
    assert sum(json.loads(noted.stdout)) == report["offsets"]

    for name, beam in (("direct", ()), ("flink", ["--runner=FlinkRunner"])):
        output = replays.home / name
        report = replays.report("--countries", "TN", "--last", "1d", "--output", output, beam=beam)
        assert Path(report["report"]).parent == output
        assert_report_says(report, feed, [str(output / "cdr.final"), str(output / "cdr.dlq")])
        accepted, rejected = (
            ds.dataset(output / topic, format="parquet", partitioning="hive").to_table().to_pylist()
            for topic in ("cdr.final", "cdr.dlq")
        )
        assert sorted(map(source_of_record, accepted)) == sorted(finals(streamed))
        assert Counter(row["code"] for row in rejected) == Counter(code for code in feed.expected.values() if code)

    replays.report(
        "--countries", "TN", "--last", "1d", "--output", replays.home / "avro", "--format", "avro",
        beam=["--runner=FlinkRunner"],
    )  # fmt: skip
    (path,) = (replays.home / "avro" / "cdr.final").glob("*.avro")
    with path.open("rb") as file:
        assert sorted(map(source_of_record, fastavro.reader(file))) == sorted(finals(streamed))


def assert_report_says(report: Mapping[str, Any], feed: Feed, outputs: Sequence[str]) -> None:
    event = json.loads(Path(report["report"]).read_text())
    (read,) = event["inputs"]
    offsets = read["facets"]["orion_offsets"]["offsets"]
    assert (read["name"], sum(high - low for low, high in offsets.values())) == ("cdr.raw.TN", len(feed.expected))
    rows = [(each["name"], each["outputFacets"]["outputStatistics"]["rowCount"]) for each in event["outputs"]]
    assert rows == list(zip(outputs, (report["final"], report["dead_letters"]), strict=True))
    assert event["run"]["facets"]["orion_run"]["runId"] == report["run_id"]


def by_key(records: list[Record]) -> dict[tuple[int, bytes | None], list[Source]]:
    read = avro_reader(UnifiedCdr)
    found: dict[tuple[int, bytes | None], list[Source]] = {}
    for record in records:
        found.setdefault((record.partition, record.key), []).append(source_of_record(read(record.payload)))
    return found


def create(servers: str, *topics: str) -> None:
    # It must live until the answers have come.
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    for created in admin.create_topics([NewTopic(topic, 12, 1) for topic in topics]).values():
        created.result()


@pytest.mark.deep
def test_quiet_and_empty_partitions_and_a_deleted_start_are_in_the_plan(broker: LocalKafka, replays: Replays) -> None:
    servers, topic = broker.bootstrap_servers, raw_topic("MA").name
    now = datetime.now(UTC)
    feed = Feed(servers)
    for minutes in range(60):
        at = round((now - timedelta(minutes=60 - minutes)).timestamp() * 1000)
        feed.send(topic, None, b"x", code="malformed_payload", partition=0, timestamp=at)
    feed.send(topic, None, b"x", code="malformed_payload", partition=1, timestamp=at - 50 * 60_000)
    feed.flush()
    times = "--countries", "MA", "--from", (now - timedelta(minutes=30, seconds=1)).isoformat(), "--to", now.isoformat()

    plan = replays.report(*times, "--dry-run")
    wanted = {part["partition"]: (part["low"], part["high"]) for part in plan["partitions"] if part["high"]}
    assert wanted == {0: (30, 60), 1: (1, 1)}
    assert (plan["offsets"], plan["truncated"]) == (30, [])
    assert plan["targets"] == {"final": FINAL.name, "dead_letters": DEAD_LETTERS.name}
    assert "neither --tag-partials nor --flag-duplicates" in "".join(plan["notes"])
    shown = replays.run(*times, "--dry-run").stderr
    assert f"to the topics {FINAL.name} and {DEAD_LETTERS.name}" in " ".join(shown.split())

    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, 45)]).values()
    deleted.result()
    refused = replays.run(*times, "--yes", "--output", replays.home / "out", code=2)
    assert f"{topic}[0]: what was below offset 45 is deleted; the first record left is at offset 45" in refused.stderr
    assert not (replays.home / "out").exists()
    by_offset = "--offsets", "MA:0=40-50", "--output", replays.home / "out"
    refused = replays.run(*by_offset, "--yes", code=2)
    assert f"{topic}[0]: 5 of the offsets asked for is deleted" in refused.stderr

    report = replays.report(*times, "--allow-truncated", "--output", replays.home / "out", "--format", "avro")
    assert report["dead_letters"] == 15
    (file,) = (replays.home / "out" / "cdr.dlq").glob("*.avro")
    with file.open("rb") as content:
        assert [letter["source_offset"] for letter in fastavro.reader(content)] == list(range(45, 60))
    again = "--offsets", "MA:0=50-60", "--output", replays.home / "out"
    refused = replays.run(*again, "--yes", code=2)
    assert "holds 2 files of other replays" in refused.stderr
    assert "--replace deletes them" in refused.stderr
    report = replays.report(*again, "--replace")
    assert report["targets"]["dead_letters"] == str(replays.home / "out" / "cdr.dlq")
    table = ds.dataset(replays.home / "out" / "cdr.dlq", format="parquet").to_table()
    assert sorted(table.column("source_offset").to_pylist()) == list(range(50, 60))
    assert (
        replays.report("--countries", "MA", "--from", now.isoformat(), "--output", replays.home / "none")["records"]
        == 0
    )


def test_a_timestamp_ahead_of_now_hides_nothing_behind_it(broker: LocalKafka, replays: Replays) -> None:
    servers, topic = broker.bootstrap_servers, raw_topic("CI").name
    now = datetime.now(UTC)
    feed = Feed(servers)
    for number in range(30):
        # A broker takes what is ahead by less than an hour.
        at = now + timedelta(minutes=30) if number == 13 else now - timedelta(seconds=60 - number)
        feed.send(topic, None, b"x", code="malformed_payload", partition=7, timestamp=round(at.timestamp() * 1000))
    feed.flush()
    (held,) = (held for part, held in offset_ranges(servers, [topic]).items() if part.partition == 7)
    start = (now - timedelta(minutes=5)).isoformat()

    def planned(*times: str) -> tuple[list[int], list[str]]:
        plan = replays.report("--countries", "CI", *times, "--output", replays.home / "out", "--dry-run")
        (part,) = (part for part in plan["partitions"] if part["partition"] == 7)
        return [part["low"], part["high"]], plan["notes"]

    assert planned("--last", "5m") == ([held.low, held.high], [])
    assert planned("--from", start) == ([held.low, held.high], [])
    cut, notes = planned("--from", start, "--to", now.isoformat())
    assert cut == [held.low, held.low + 13]
    (note,) = notes
    assert note.startswith(f"{topic}[7]: the record at offset {held.low + 13} has the timestamp ")
    assert "ahead of now" in note
    audit = [sys.executable, "-m", "orion_beam.cli.main", "audit", "--bootstrap-servers", servers, "--countries", "CI"]
    audited = subprocess.run([*audit, "--to", now.isoformat()], capture_output=True, text=True, timeout=600)
    assert note in audited.stderr


@pytest.mark.parametrize("target", ["topics", pytest.param("files", marks=pytest.mark.deep)])
def test_a_replay_that_is_killed_goes_on_where_it_was(broker: LocalKafka, replays: Replays, target: str) -> None:
    servers, country = broker.bootstrap_servers, {"files": "FR", "topics": "SN"}[target]
    feed = Feed(servers)
    start = datetime.now(UTC)
    for _ in range(2):
        # Of the second half, each record was there before.
        feed.send_generated(country, RECORDS // 2, seed=7, fault_rate=0.02, start=start)
        feed.flush()
    options = ("--output", replays.home / "out", "--flag-duplicates") if target == "files" else ()

    started = replays.started(
        "--countries", country, "--last", "7d", "--run-id", "killed", "--workers", "1", "--yes", *options
    )
    with started as process:
        await_until(lambda: replays.done("killed") or not process.is_running(), REPLAY_TIMEOUT_S, "a chunk is done")
        workers = process.children(recursive=True)
        process.kill()
    await_until(lambda: not any(worker.is_running() for worker in workers), REPLAY_TIMEOUT_S, "its workers have ended")
    done_before = replays.done("killed")
    report = replays.report("--resume", "killed")

    assert 0 < done_before < replays.done("killed")
    assert 0 < report["resumed_behind"] < RECORDS
    assert report["records"] == RECORDS, "the counts are those of both runs"
    if target == "topics":
        found = outcomes(servers, raw_topic(country).name)
        assert set(found) == set(feed.expected)
        return
    rows = [
        row
        for name in ("cdr.final", "cdr.dlq")
        for row in ds.dataset(replays.home / "out" / name, format="parquet")
        .to_table(columns=["source_topic", "source_partition", "source_offset"])
        .to_pylist()
    ]
    assert Counter(map(source_of_record, rows)) == Counter(dict.fromkeys(feed.expected, 1)), "exactly once in files"
    flagged = ds.dataset(replays.home / "out" / "cdr.final", format="parquet").to_table().column("duplicate_of")
    accepted = sum(code is None for code in feed.expected.values())
    assert len(flagged) - flagged.null_count == accepted // 2, "as in one go, by whatever chunks and workers"
    refused = replays.run("--resume", "killed")
    assert "is done" in refused.stderr


def test_a_diff_says_what_other_rules_would_make_of_the_same_records(broker: LocalKafka, replays: Replays) -> None:
    feed = Feed(broker.bootstrap_servers)
    feed.send_generated("CI", 2_000, seed=11, fault_rate=0.2)
    feed.flush()
    new = replays.home / "profiles"
    shutil.copytree(PROFILES_DIRECTORY, new)
    with (new / "CI.toml").open("a") as profile:
        profile.write('[rules]\nunknown_rat = "warn"\n')

    done = replays.run("diff", "--countries", "CI", "--last", "1h", "--new-profiles", new, "--json", code=1)

    found = json.loads(done.stdout)
    assert found["unmatched"] == 0
    assert found["records"] >= 2_000
    counts = {(each["kind"], each["what"]): each["records"] for each in found["differences"]}
    assert set(counts) == {("fixed_reject", "unknown_rat")}
    only_rat = sum(code == "unknown_rat" for code in feed.expected.values())
    assert 0 < only_rat <= counts["fixed_reject", "unknown_rat"]
    assert not re.search("[0-9]{14}", done.stdout), "a subscriber's number is in the report"
    assert not list(replays.home.glob("out*")), "nothing is left behind"
    refused = replays.run("diff", "--countries", "CI", "--last", "1h", code=2)
    assert "old and new are the same" in refused.stderr


@pytest.mark.deep
def test_a_diff_says_what_other_code_would_make_of_the_same_records(broker: LocalKafka, replays: Replays) -> None:
    feed = Feed(broker.bootstrap_servers)
    feed.send_generated("SN", 4_000, seed=12)
    feed.flush()
    checkout = replays.home / "checkout"
    for package in ("orion_beam", "transforms", "schemas", "runners"):
        shutil.copytree(Path(orion_beam.__file__).parents[1] / package, checkout / package, symlinks=True)
    scoring = checkout / "transforms" / "rules" / "fraud.py"
    weight = '"international_voice_or_sms": 0.2'
    assert weight in scoring.read_text()
    scoring.write_text(scoring.read_text().replace(weight, weight.replace("0.2", "0.3")))

    asked = ("diff", "--countries", "SN", "--last", "1h", "--json")
    versions = ("--old-version", Path(orion_beam.__file__).parents[1], "--new-version", checkout)
    found = json.loads(replays.run(*asked, *versions, code=1).stdout)

    assert found["records"] >= 4_000
    assert found["unmatched"] == 0
    (only,) = found["differences"]
    assert (only["kind"], only["what"], only["country"]) == ("changed", "fraud_score", "SN")
    assert only["records"] > 0
    assert all(float(sample["new"]) > float(sample["old"]) for sample in only["samples"])
    nothing = replays.run(*asked, "--new-version", replays.home, code=2)
    assert "neither a virtual environment (bin/python) nor a checkout" in nothing.stderr
