"""Runner of a replay on this machine: worker processes that do one chunk after another on Beam's DirectRunner.

A chunk is a bounded job of its own. It is marked as done only when the job has ended, and thus the broker has
acknowledged every record. A replay that is killed at any time therefore resumes with the chunks that are not done.

    python -m orion_beam.runners.replay DIRECTORY

is one worker process. It reads numbers of chunks from its standard input and writes reports, one JSON object a line, to
its standard output. It ends when its input ends or its parent dies.
"""

import json
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from confluent_kafka import KafkaException

from orion_beam.config import FileSink, JobConfig
from orion_beam.errors import JobFailedError, UserError
from orion_beam.io.kafka_sink import DeliveryError
from orion_beam.io.offset_range_source import on_progress
from orion_beam.kafka.offset_ranges import Advance
from orion_beam.replay.plan import Chunk, Lane
from orion_beam.replay.runs import Run, publish_files
from orion_beam.runners.direct import run_direct
from orion_beam.telemetry.logs import set_up_logging
from orion_beam.telemetry.run_counters import DEAD_LETTER, FINAL_ROW, READ, RowOutcome

STOP_TIMEOUT_S = 10.0


def run_replay(run: Run, advance: Advance) -> None:
    """Do the chunks of a replay that are not done. The caller holds the replay's lock.

    Args:
        run: The replay.
        advance: Called repeatedly with the number of offsets read since the last call.

    Raises:
        UserError: For instance, retention has deleted records that are still to be read.
        JobFailedError: A chunk failed. Chunks done before stay done.
    """
    lanes = list(run.left())
    reports: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
    with _workers(run, min(run.replay.workers, len(lanes)), reports) as inputs:
        todo: dict[int, list[Chunk]] = {}
        for worker in list(inputs):
            todo[worker] = list(lanes.pop(0))
            _send(inputs[worker], todo[worker].pop(0))
        while inputs:
            worker, report = reports.get()
            advance(report.get("offsets", 0))
            if "error" in report:
                raise UserError(report["error"]) if report["is_users"] else JobFailedError(report["error"])
            if "done" in report:
                if not todo[worker] and lanes:
                    todo[worker] = list(lanes.pop(0))
                if todo[worker]:
                    _send(inputs[worker], todo[worker].pop(0))
                else:
                    inputs.pop(worker).close()


def _send(worker: IO[str], chunk: Chunk) -> None:
    worker.write(f"{chunk.number}\n")
    worker.flush()


@contextmanager
def _workers(run: Run, count: int, reports: "queue.Queue[tuple[int, dict[str, Any]]]") -> Iterator[dict[int, IO[str]]]:
    """Start worker processes; yield their inputs by number. All have ended when the block is left."""
    started: list[subprocess.Popen[str]] = []
    inputs: dict[int, IO[str]] = {}
    try:
        for number in range(count):
            log = run.directory / f"worker-{number}.log"
            command = [sys.executable, "-m", "orion_beam.runners.replay", str(run.directory)]
            with log.open("w") as errors:
                # In a session of its own a worker does not get Ctrl-C: this process gets it, and ends the workers.
                worker = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    start_new_session=True,
                )
            started.append(worker)
            assert worker.stdin is not None
            inputs[number] = worker.stdin
            threading.Thread(target=_listen, args=(number, worker, log, reports), daemon=True).start()
        yield inputs
    finally:
        for worker in started:
            assert worker.stdin is not None
            if worker.stdin.closed:
                worker.wait(STOP_TIMEOUT_S)
            else:
                worker.kill()
                worker.wait()
                worker.stdin.close()


def _listen(
    number: int, worker: "subprocess.Popen[str]", log: Path, reports: "queue.Queue[tuple[int, dict[str, Any]]]"
) -> None:
    assert worker.stdout is not None
    with worker.stdout:
        for line in worker.stdout:
            try:
                reports.put((number, json.loads(line)))
            except ValueError:
                # This thread must not end: the reader of the queue would wait for ever.
                reports.put(
                    (number, {"error": f"a worker says what is no report; {log} may say more", "is_users": False})
                )
    if code := worker.wait():
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        reports.put((number, {"error": f"a worker {how}; {log} may say more", "is_users": False}))


def do_chunks(run: Run, lanes: tuple[Lane, ...], run_job: Callable[[JobConfig], dict[RowOutcome, int]]) -> None:
    """Read, process and write the chunks of lanes in one job, and mark them as done.

    Raises:
        JobFailedError: The job failed, or wrote another number of rows than it read, which is a bug of this product.
    """
    chunks = tuple(chunk for lane in lanes for chunk in lane)
    with _staged(run, chunks[0]) as sink:
        outcomes = run_job(run.job_of(lanes, sink))
        _check_conservation(outcomes)
    run.mark_done(chunks, outcomes)


@contextmanager
def _staged(run: Run, first: Chunk) -> Iterator[FileSink | None]:
    """Yield a sink into a staging directory, whose files are published after the block; None if topics are the sink."""
    sink = run.replay.job.sink
    if not isinstance(sink, FileSink):
        yield None
        return
    tag = f"{run.replay.run_id}-{first.number:05d}"
    staging = sink.directory / f".{tag}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    yield sink.model_copy(update={"directory": staging})
    publish_files(staging, sink.directory, tag)


def _check_conservation(outcomes: dict[RowOutcome, int]) -> None:
    """Check that as many rows were written as were read.

    Raises:
        JobFailedError: The numbers differ.
    """
    read, written = (
        sum(rows for outcome, rows in outcomes.items() if outcome.kind in kinds)
        for kinds in ((READ,), (FINAL_ROW, DEAD_LETTER))
    )
    if read != written:
        raise JobFailedError(f"{read:,} records were read and {written:,} written: this is a bug, please report it")


def main() -> None:
    """Do the chunks whose numbers arrive on standard input."""
    set_up_logging()
    directory = Path(sys.argv[1])
    run = Run.load(directory.parent, directory.name)
    chunks = run.replay.chunks
    run_job = partial(run_direct, beam_arguments=run.replay.beam_arguments)
    asked: queue.Queue[Chunk | None] = queue.Queue()
    idle = threading.Event()
    threading.Thread(target=_take_orders, args=(chunks, asked, idle), daemon=True).start()
    on_progress(lambda offsets: _report(offsets=offsets))
    idle.set()
    while True:
        chunk = asked.get()
        if chunk is None:
            return
        idle.clear()
        try:
            do_chunks(run, ((chunk,),), run_job)
        except (UserError, JobFailedError, KafkaException, DeliveryError) as error:
            _report(error=f"chunk {chunk.number}: {_text_of(error)}", is_users=isinstance(error, UserError))
            return
        except Exception as error:
            # The text of the exception may hold a subscriber's number, so only its type is logged.
            logging.getLogger(__name__).error("chunk %d failed: %s", chunk.number, type(error).__name__)
            _report(error=f"chunk {chunk.number} failed with {type(error).__name__}", is_users=False)
            return
        # Set before the report: the parent closes the input after the last chunk, which must not look like its death.
        idle.set()
        _report(done=chunk.number)


def _take_orders(chunks: dict[int, Chunk], asked: "queue.Queue[Chunk | None]", idle: threading.Event) -> None:
    try:
        for line in sys.stdin:
            asked.put(chunks[int(line)])
        if not idle.is_set():
            # The parent has died in the middle of a chunk. A resumed replay does the chunk again.
            os._exit(1)
    finally:
        # Also after a line that is no number: otherwise this process waits for ever.
        asked.put(None)


def _text_of(error: BaseException) -> str:
    text = str(error.args[0].str() if isinstance(error, KafkaException) and error.args else error)
    # Beam appends the name of the step to the message.
    return text.partition(" [while running")[0]


def _report(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
