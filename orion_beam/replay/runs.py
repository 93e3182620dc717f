"""A replay on disk: its plan, and which chunks are done. A killed one goes on from here."""

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
from orion_beam.telemetry.run_report import REPORT_FILE, Dataset, RunReport

_RUN_ID = re.compile(r"[a-zA-Z0-9_-]{1,100}")


class Replay(BaseModel):
    """Everything that a replay is, as it was planned.

    Attributes:
        run_id: its name, in every record that it writes.
        created_at: when it was planned.
        job: the job, without what it reads.
        partitions: the offset plan.
        lanes: the same in pieces.
        workers: how many Python processes.
        beam_arguments: Beam's own options.
        reference_version: of cells and subscribers, when it was planned.
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
        """How many are read; records may be fewer."""
        return sum(plan.offsets for plan in self.partitions)

    @property
    def chunks(self) -> dict[int, Chunk]:
        """All chunks by number."""
        return {chunk.number: chunk for lane in self.lanes for chunk in lane}


class Run:
    """A replay's directory: `plan.json`, and a file for each chunk that is done.

    Attributes:
        directory: where it is.
        replay: the plan.
    """

    def __init__(self, directory: Path, replay: Replay) -> None:
        """Take what there is; see `create` and `load`."""
        self.directory = directory
        self.replay = replay

    @classmethod
    def create(cls, runs: Path, replay: Replay) -> Self:
        """Save a new replay.

        Raises:
            UserError: there is one of this name.
        """
        directory = _directory_of(runs, replay.run_id)
        if (directory / "plan.json").exists():
            raise UserError(f"there is a replay {replay.run_id} already: go on with --resume {replay.run_id}")
        (directory / "done").mkdir(parents=True, exist_ok=True)
        _write_whole(directory / "plan.json", replay.model_dump_json(indent=1))
        return cls(directory, replay)

    @classmethod
    def load(cls, runs: Path, run_id: str) -> Self:
        """Find a saved replay.

        Raises:
            UserError: there is none of this name, or another version saved it; names those there are.
        """
        directory = _directory_of(runs, run_id)
        try:
            text = (directory / "plan.json").read_text(encoding="utf-8")
            return cls(directory, Replay.model_validate_json(text))
        except FileNotFoundError:
            known = sorted(path.parent.name for path in runs.glob("*/plan.json"))
            raise UserError(f"there is no replay {run_id} in {runs}: there is {', '.join(known) or 'none'}") from None
        except ValidationError:
            raise UserError(f"{directory / 'plan.json'} is no plan of this version") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who runs this replay.

        Raises:
            UserError: somebody else does.
        """
        with (self.directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"replay {self.replay.run_id} is running already") from None
            yield

    def job_of(self, slices: tuple[tuple[Chunk, ...], ...], sink: FileSink | None = None) -> JobConfig:
        """Return the job that does some chunks: those of a tuple one after the other."""
        source = self.replay.job.source
        assert isinstance(source, KafkaRanges)
        lanes = tuple(_joined(lane) for lane in slices)
        changed: dict[str, object] = {"source": source.model_copy(update={"lanes": lanes})}
        return self.replay.job.model_copy(update=changed | ({"sink": sink} if sink else {}))

    def mark_done(self, chunks: tuple[Chunk, ...], outcomes: Mapping[RowOutcome, int]) -> None:
        """Note that all that chunks hold is written for good, and how many rows had which outcome.

        It is one file: what a job has written together is done as a whole or not at all.
        """
        rows = [[*outcome, count] for outcome, count in outcomes.items()]
        mark = {"chunks": [chunk.number for chunk in chunks], "rows": rows}
        _write_whole(self.directory / "done" / f"{chunks[0].number:05d}.json", json.dumps(mark))

    def outcomes(self) -> dict[int, dict[RowOutcome, int]]:
        """Return the chunks that are done, and what became of their rows; that of several is with the first."""
        done: dict[int, dict[RowOutcome, int]] = {}
        for path in sorted((self.directory / "done").glob("*.json")):
            mark = json.loads(path.read_text())
            if not isinstance(mark, dict):
                raise UserError(f"{path} is no mark of this version: replay anew, or go on with the version before")
            done |= {number: {} for number in mark["chunks"]}
            done[mark["chunks"][0]] = {RowOutcome(*names): count for *names, count in mark["rows"]}
        return done

    def write_report(self, counts: Mapping[str, Any]) -> Path:
        """Leave the report of a replay that is done: beside its files, or else in its directory.

        Args:
            counts: what `orion-beam replay --json` prints of it: `final`, `dead_letters` and more.

        Returns:
            Where it is.
        """
        replay, job = self.replay, self.replay.job
        assert isinstance(job.source, KafkaRanges)
        servers = job.source.bootstrap_servers
        read = {
            SourcePartition(plan.topic, plan.partition): OffsetRange(plan.low, plan.high) for plan in replay.partitions
        }
        rows = (counts["final"], counts["dead_letters"])
        if isinstance(job.sink, FileSink):
            # Where there was nothing to write, nobody has made it.
            job.sink.directory.mkdir(parents=True, exist_ok=True)
            path = job.sink.directory / REPORT_FILE.replace(".", f".{replay.run_id}.", 1)
            written = [
                Dataset.of_directory(job.sink.directory / Path(name).stem, count)
                for name, count in zip((FINAL_FILE, DEAD_LETTER_FILE), rows, strict=True)
            ]
        else:
            assert isinstance(job.sink, KafkaSink)
            path = self.directory / REPORT_FILE
            topics = (job.sink.final_topic, job.sink.dead_letter_topic)
            written = [Dataset.of_topic(servers, topic, {}, count) for topic, count in zip(topics, rows, strict=True)]
        RunReport(
            job="replay",
            run_id=replay.run_id,
            started=replay.created_at,
            ended=datetime.now(UTC),
            inputs=[Dataset.of_topic(servers, topic, read) for topic in dict.fromkeys(part.topic for part in read)],
            outputs=written,
            counts=counts,
            reference_version=replay.reference_version,
        ).write(path)
        return path

    def left(self) -> tuple[Lane, ...]:
        """Return the lanes without what is done."""
        done = self.outcomes()
        lanes = (tuple(chunk for chunk in lane if chunk.number not in done) for lane in self.replay.lanes)
        return tuple(lane for lane in lanes if lane)


def files_of_others(directory: Path, run_id: str) -> list[Path]:
    """Return the files of CDRs and dead letters in a directory that are not of this replay, also unfinished ones.

    A reader of the directory would take them for part of it.
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
    """Move a chunk's files to where they are read, under names of its own: a redo replaces what it wrote before.

    `NAME.avro` becomes `NAME/TAG.avro`; Parquet files keep their directories, and become `TAG.0.parquet` and so on.
    """
    for inside, directories, names in os.walk(directory):
        # What other processes are staging comes and goes.
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
    """Return what chunks of a lane, one behind the other, hold of each partition."""
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
    """Write a file so that it is there as a whole or not at all, also after a power cut."""
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
