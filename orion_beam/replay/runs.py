"""Run directory of a replay: its plan and its finished chunks, from which a killed replay resumes."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from orion_beam.config import FileSink, JobConfig, KafkaRanges, KafkaSink, Slice
from orion_beam.errors import UserError
from orion_beam.io.files import DEAD_LETTER_DIRECTORY, DEAD_LETTER_FILE, FINAL_DIRECTORY, FINAL_FILE
from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition
from orion_beam.replay.plan import Chunk, Lane, PartitionPlan
from orion_beam.telemetry.run_counters import RowOutcome
from orion_beam.telemetry.run_report import REPORT_FILE, RunReport, input_topic, output_directory, output_topic

_RUN_ID = re.compile(r"[a-zA-Z0-9_-]{1,100}")


class Replay(BaseModel):
    """Complete plan of a replay.

    Attributes:
        run_id: Name of the replay, in every record that it writes.
        created_at: Time at which it was planned.
        job: Configuration of the job, without the offsets to read.
        partitions: Offset plan.
        lanes: Offset plan, cut into chunks.
        workers: Number of Python processes.
        beam_arguments: Options of Beam.
        reference_version: Version of the cells and subscribers at the time of planning.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    created_at: datetime
    job: JobConfig
    partitions: tuple[PartitionPlan, ...]
    lanes: tuple[Lane, ...]
    workers: int
    beam_arguments: tuple[str, ...] = ()
    reference_version: str

    @property
    def offsets(self) -> int:
        """Number of offsets to read; there may be fewer records."""
        return sum(plan.offsets for plan in self.partitions)

    @property
    def chunks(self) -> dict[int, Chunk]:
        """All chunks by number."""
        return {chunk.number: chunk for lane in self.lanes for chunk in lane}


class Run:
    """Directory of a replay: `plan.json`, and in `done` a file for each group of finished chunks.

    Attributes:
        directory: Path of the directory.
        replay: Plan of the replay.
    """

    def __init__(self, directory: Path, replay: Replay) -> None:
        """Take an existing directory and its plan; see `create` and `load`."""
        self.directory = directory
        self.replay = replay

    @classmethod
    def create(cls, runs: Path, replay: Replay) -> Self:
        """Save a new replay.

        Raises:
            UserError: There is already a replay with this name.
        """
        directory = _directory_of(runs, replay.run_id)
        if (directory / "plan.json").exists():
            raise UserError(f"there is a replay {replay.run_id} already: go on with --resume {replay.run_id}")
        (directory / "done").mkdir(parents=True, exist_ok=True)
        _write_whole(directory / "plan.json", replay.model_dump_json(indent=1))
        return cls(directory, replay)

    @classmethod
    def load(cls, runs: Path, run_id: str) -> Self:
        """Load a saved replay.

        Raises:
            UserError: There is no replay with this name (names the existing ones), or another version saved it.
        """
        directory = _directory_of(runs, run_id)
        try:
            text = (directory / "plan.json").read_text(encoding="utf-8")
            return cls(directory, Replay.model_validate_json(text))
        except FileNotFoundError:
            known = sorted(path.parent.name for path in runs.glob("*/plan.json"))
            raise UserError(f"there is no replay {run_id} in {runs}: there is {', '.join(known) or 'none'}") from None
        except ValidationError:
            raise UserError(f"{directory / 'plan.json'} cannot be read as a plan of this version") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the replay, so that only one process runs it.

        Raises:
            UserError: Another process runs it.
        """
        with (self.directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"replay {self.replay.run_id} is running already") from None
            yield

    def job_of(self, slices: tuple[tuple[Chunk, ...], ...], sink: FileSink | None = None) -> JobConfig:
        """Return the job that handles chunks; each inner tuple becomes a lane, read in order."""
        source = self.replay.job.source
        assert isinstance(source, KafkaRanges)
        lanes = tuple(_joined(lane) for lane in slices)
        changed: dict[str, object] = {"source": source.model_copy(update={"lanes": lanes})}
        return self.replay.job.model_copy(update=changed | ({"sink": sink} if sink else {}))

    def mark_done(self, chunks: tuple[Chunk, ...], outcomes: Mapping[RowOutcome, int]) -> None:
        """Record that the output of chunks is written for good, and how many rows had which outcome.

        All chunks of a job are in one file, so that they are done together or not at all.
        """
        rows = [[*outcome, count] for outcome, count in outcomes.items()]
        mark = {"chunks": [chunk.number for chunk in chunks], "rows": rows}
        _write_whole(self.directory / "done" / f"{chunks[0].number:05d}.json", json.dumps(mark))

    def outcomes(self) -> dict[int, dict[RowOutcome, int]]:
        """Return the outcomes of the finished chunks' rows; for chunks done together, the first one has the counts."""
        done: dict[int, dict[RowOutcome, int]] = {}
        for path in sorted((self.directory / "done").glob("*.json")):
            mark = json.loads(path.read_text())
            if not isinstance(mark, dict):
                raise UserError(
                    f"{path} cannot be read by this version: start anew, or resume with the version that wrote it"
                )
            done |= {number: {} for number in mark["chunks"]}
            done[mark["chunks"][0]] = {RowOutcome(*names): count for *names, count in mark["rows"]}
        return done

    def write_report(self, counts: Mapping[str, Any]) -> Path:
        """Write the report of a finished replay: beside its output files, or for a Kafka sink in this directory.

        Args:
            counts: Counts that `orion-beam replay --json` prints: `final`, `dead_letters` and more.

        Returns:
            Path of the report.
        """
        replay, job = self.replay, self.replay.job
        assert isinstance(job.source, KafkaRanges)
        servers = job.source.bootstrap_servers
        read = {
            SourcePartition(plan.topic, plan.partition): OffsetRange(plan.low, plan.high) for plan in replay.partitions
        }
        rows = (counts["final"], counts["dead_letters"])
        if isinstance(job.sink, FileSink):
            # A replay without output has not created it.
            job.sink.directory.mkdir(parents=True, exist_ok=True)
            path = job.sink.directory / REPORT_FILE.replace(".", f".{replay.run_id}.", 1)
            written = [
                output_directory(job.sink.directory / Path(name).stem, count)
                for name, count in zip((FINAL_FILE, DEAD_LETTER_FILE), rows, strict=True)
            ]
        else:
            assert isinstance(job.sink, KafkaSink)
            path = self.directory / REPORT_FILE
            topics = (job.sink.final_topic, job.sink.dead_letter_topic)
            written = [output_topic(servers, topic, count) for topic, count in zip(topics, rows, strict=True)]
        RunReport(
            job="replay",
            run_id=replay.run_id,
            started=replay.created_at,
            ended=datetime.now(UTC),
            inputs=[input_topic(servers, topic, read) for topic in dict.fromkeys(part.topic for part in read)],
            outputs=written,
            counts=counts,
            reference_version=replay.reference_version,
        ).write(path)
        return path

    def left(self) -> tuple[Lane, ...]:
        """Return the lanes without the finished chunks."""
        done = self.outcomes()
        lanes = (tuple(chunk for chunk in lane if chunk.number not in done) for lane in self.replay.lanes)
        return tuple(lane for lane in lanes if lane)


def files_of_others(directory: Path, run_id: str) -> list[Path]:
    """Return the files of CDRs and dead letters in a directory that another run has written, finished or not.

    A reader of the directory would take them for part of this replay.
    """
    own = re.compile(rf"\.?{re.escape(run_id)}-[0-9]{{5}}(\..*)?")
    places = [
        directory / FINAL_DIRECTORY,
        directory / DEAD_LETTER_DIRECTORY,
        *directory.glob(".*-[0-9][0-9][0-9][0-9][0-9]"),
    ]
    return sorted(
        path
        for place in places
        for path in place.rglob("*")
        if path.suffix in (".avro", ".parquet") and not (own.fullmatch(place.name) or own.fullmatch(path.name))
    )


def publish_files(staging: Path, directory: Path, tag: str) -> None:
    """Move a chunk's files to the output directory, and replace the files of an earlier attempt with the same tag.

    `NAME.avro` becomes `NAME/TAG.avro`. Parquet files keep their directories, and become `TAG.0.parquet` and so on.
    """
    for inside, directories, names in os.walk(directory):
        # Hidden directories are the staging of other processes: their files appear and disappear.
        directories[:] = [name for name in directories if not name.startswith(".")]
        for name in names:
            if name.startswith(f"{tag}."):
                Path(inside, name).unlink()
    for number, path in enumerate(sorted(path for path in staging.rglob("*") if path.is_file())):
        within = path.relative_to(staging)
        if path.suffix == ".avro":
            target = directory / within.stem / f"{tag}.avro"
        else:
            target = directory / within.parent / f"{tag}.{number}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        _sync(path)
        path.replace(target)
        _sync(target.parent)
    shutil.rmtree(staging)


def _joined(chunks: Iterable[Chunk]) -> tuple[Slice, ...]:
    """Join the slices of consecutive chunks of a lane, per partition."""
    joined: dict[tuple[str, int], Slice] = {}
    for piece in (piece for chunk in chunks for piece in chunk.slices):
        before = joined.setdefault((piece.topic, piece.partition), piece)
        joined[piece.topic, piece.partition] = before.model_copy(update={"high": piece.high})
    return tuple(joined.values())


def _directory_of(runs: Path, run_id: str) -> Path:
    if not _RUN_ID.fullmatch(run_id):
        raise UserError(f"{run_id!r} is no name of a replay: letters, digits, _ and - only")
    return runs / run_id


def _write_whole(path: Path, text: str) -> None:
    """Write a file atomically: it exists completely or not at all, even after a power cut."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    _sync(part)
    part.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
