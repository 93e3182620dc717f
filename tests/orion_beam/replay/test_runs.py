"""A replay on disk: what is done stays done, and a redo of a chunk replaces its files."""

import itertools
import json
import os
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

import pytest

from orion_beam.config import FileSink, JobConfig, KafkaRanges
from orion_beam.errors import UserError
from orion_beam.replay.plan import PartitionPlan, lanes_of, round_of
from orion_beam.replay.runs import Replay, Run, files_of_others, publish_files
from orion_beam.runners.replay import do_chunks
from orion_beam.telemetry.run_counters import FINAL_ROW, READ, RowOutcome

PLANS = [
    PartitionPlan(topic="cdr.raw.FR", partition=number, low=0, high=60_000, held_low=0, held_high=60_000)
    for number in range(2)
]


def replay_of(run_id: str = "a") -> Replay:
    job = JobConfig(
        countries=("FR",),
        source=KafkaRanges(bootstrap_servers="localhost:1", lanes=()),
        sink=FileSink(directory=Path("out")),
        wire_prefix=b"\0\0\0\0\x01",
        run_id=run_id,
    )
    return Replay(
        run_id=run_id,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        job=job,
        partitions=tuple(PLANS),
        lanes=lanes_of(PLANS, 2),
        workers=2,
        beam_arguments=("--x=1",),
        reference_version="cells-1/subscribers-2",
    )


def test_a_saved_replay_is_the_same_again_and_goes_on_behind_what_is_done(tmp_path: Path) -> None:
    run = Run.create(tmp_path, replay_of())
    first, second = run.replay.lanes
    run.mark_done((first[0],), {RowOutcome(FINAL_ROW, "FR"): 7, RowOutcome(READ, "FR"): 7})

    again = Run.load(tmp_path, "a")

    assert again.replay == run.replay
    assert again.left() == (first[1:], second)
    assert again.outcomes() == {first[0].number: {RowOutcome(FINAL_ROW, "FR"): 7, RowOutcome(READ, "FR"): 7}}


def test_a_chunk_s_job_reads_its_slices_and_writes_where_it_is_told(tmp_path: Path) -> None:
    run = Run.create(tmp_path, replay_of())
    chunk = run.replay.lanes[0][0]
    job = run.job_of(((chunk,),), FileSink(directory=tmp_path))
    assert isinstance(job.source, KafkaRanges)
    assert job.source.lanes == (chunk.slices,)
    assert job.sink == FileSink(directory=tmp_path)
    assert (job.run_id, job.wire_prefix) == ("a", b"\0\0\0\0\x01")


def test_a_replay_is_not_planned_twice_nor_run_by_two(tmp_path: Path) -> None:
    run = Run.create(tmp_path, replay_of())
    with pytest.raises(UserError, match="go on with --resume a"):
        Run.create(tmp_path, replay_of())
    with run.locked(), pytest.raises(UserError, match="is running already"), Run.load(tmp_path, "a").locked():
        pass


def test_a_replay_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    Run.create(tmp_path, replay_of())
    with pytest.raises(UserError, match=r"no replay b in .*: there is a$"):
        Run.load(tmp_path, "b")
    with pytest.raises(UserError, match="is no name of a replay"):
        Run.load(tmp_path, "../a")
    (tmp_path / "a" / "plan.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read as a plan of this version"):
        Run.load(tmp_path, "a")


def written(staging: Path, *names: str) -> Path:
    for name in names:
        path = staging / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return staging


def test_a_redo_replaces_the_files_of_its_chunk_and_no_others(tmp_path: Path) -> None:
    out = tmp_path / "out"
    day = "cdr.final/country=FR/event_date=2026-01-0"
    publish_files(written(tmp_path / "s0", f"{day}1/x.parquet", f"{day}2/y.parquet"), out, "a-00001")
    publish_files(written(tmp_path / "s1", f"{day}1/z.parquet", "cdr.dlq.avro"), out, "a-00002")
    publish_files(written(tmp_path / "s2", f"{day}3/w.parquet"), out, "a-00001")
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "cdr.dlq/a-00002.avro",
        f"{day}1/a-00002.1.parquet",
        f"{day}3/a-00001.0.parquet",
    ]
    assert not list(tmp_path.glob("s*"))


def test_files_that_another_process_is_staging_are_left_alone(tmp_path):
    out = tmp_path / "out"
    staged = written(out / ".a-00002", "cdr.final/country=FR/a-00001.0.parquet")
    publish_files(written(out / ".a-00001", "cdr.final/country=FR/x.parquet"), out, "a-00001")
    assert [path.name for path in staged.rglob("*.parquet")] == ["a-00001.0.parquet"]
    assert [path.name for path in out.glob("cdr.final/*/*")] == ["a-00001.0.parquet"]


def test_a_replay_s_report_says_which_offsets_it_read_and_what_it_wrote(tmp_path: Path) -> None:
    planned = replay_of()
    sink = FileSink(directory=tmp_path / "out")
    run = Run.create(tmp_path, planned.model_copy(update={"job": planned.job.model_copy(update={"sink": sink})}))
    path = run.write_report({"final": 119_000, "dead_letters": 1_000})
    assert path == sink.directory / "run-report.a.json"
    event = json.loads(path.read_text())
    (read,), written = event["inputs"], event["outputs"]
    assert read["facets"]["orion_offsets"]["offsets"] == {"0": [0, 60_000], "1": [0, 60_000]}
    rows = {Path(each["name"]).name: each["outputFacets"]["outputStatistics"]["rowCount"] for each in written}
    assert rows == {"cdr.final": 119_000, "cdr.dlq": 1_000}
    assert event["run"]["facets"]["orion_run"]["referenceVersion"] == "cells-1/subscribers-2"


def test_files_of_another_replay_are_seen_and_those_of_this_one_are_not(tmp_path: Path) -> None:
    day = "cdr.final/country=FR/event_date=2026-01-01"
    publish_files(written(tmp_path / "s0", f"{day}/x.parquet", "cdr.dlq.avro"), tmp_path, "a-00001")
    assert files_of_others(tmp_path, "a") == []
    publish_files(written(tmp_path / "s1", f"{day}/x.parquet"), tmp_path, "a-b-00001")
    written(tmp_path / ".c-00003", f"{day}/unfinished.parquet")
    written(tmp_path / ".a-00002", f"{day}/unfinished.parquet")
    assert {path.name for path in files_of_others(tmp_path, "a")} == {"unfinished.parquet", "a-b-00001.0.parquet"}
    names = {path.name for path in files_of_others(tmp_path, "a-b")}
    assert names == {"unfinished.parquet", "a-00001.avro", "a-00001.1.parquet"}


ROWS_OF_A_JOB = {RowOutcome(READ, "FR"): 3, RowOutcome(FINAL_ROW, "FR"): 3}


def write_one_file_a_chunk(job: JobConfig) -> dict[RowOutcome, int]:
    """Stand for the job: leave a file that says which slices it was given."""
    assert isinstance(job.source, KafkaRanges)
    assert isinstance(job.sink, FileSink)
    slices = [piece.model_dump() for lane in job.source.lanes for piece in lane]
    for name in ("cdr.final", "cdr.dlq"):
        (job.sink.directory / name).mkdir()
        (job.sink.directory / name / "x.parquet").write_text(json.dumps(slices))
    return ROWS_OF_A_JOB


class Killed(BaseException):
    """What nobody catches."""


def do_all(run: Run, monkeypatch: pytest.MonkeyPatch, steps: int) -> bool:
    """Do what is left as jobs of some chunks each, up to so many writes to the disk; return whether it was all."""
    left = iter(range(steps))

    def until_killed(_: int) -> None:
        if next(left, None) is None:
            raise Killed

    monkeypatch.setattr(os, "fsync", until_killed)
    try:
        while lanes := round_of(run.left(), 70_000):
            do_chunks(run, lanes, write_one_file_a_chunk)
    except Killed:
        return False
    return True


def test_a_replay_to_files_that_is_killed_at_any_moment_holds_everything_once_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = 0
    for steps in itertools.count():
        sink = FileSink(directory=tmp_path / f"out-{steps}")
        planned = replay_of(f"killed-{steps}")
        planned = planned.model_copy(update={"job": planned.job.model_copy(update={"sink": sink})})
        run = Run.create(tmp_path / "runs", planned)
        whole = do_all(run, monkeypatch, steps)
        kills += not whole
        assert whole or do_all(Run.load(tmp_path / "runs", planned.run_id), monkeypatch, 1_000)
        for name in ("cdr.final", "cdr.dlq"):
            files = [json.loads(path.read_text()) for path in (sink.directory / name).rglob("*.parquet")]
            reached: dict[int, int] = {0: 0, 1: 0}
            for piece in sorted((piece for slices in files for piece in slices), key=itemgetter("low")):
                assert piece["low"] == reached[piece["partition"]], f"killed after {steps} writes"
                reached[piece["partition"]] = piece["high"]
            assert reached == {0: 60_000, 1: 60_000}
        done = Run.load(tmp_path / "runs", planned.run_id)
        assert not done.left()
        if whole:
            break
    assert kills > 10, "it was hardly ever killed"
