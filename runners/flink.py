"""Runner of streams and bounded jobs on Flink: embedded in a JVM that this process starts, or a cluster."""

import argparse
import logging
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import apache_beam as beam
import grpc
import psutil
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer
from apache_beam.runners.portability.flink_uber_jar_job_server import FlinkBeamJob
from apache_beam.runners.runner import PipelineResult
from apache_beam.utils.subprocess_server import SubprocessServer

from orion_beam.config import JobConfig, KafkaSource
from orion_beam.errors import JobFailedError, ServiceFailedError, UserError
from orion_beam.kafka.lease import refusal_in
from orion_beam.kafka.offset_ranges import Advance
from orion_beam.monitoring.flink_rest import FlinkRest
from orion_beam.pipeline import build_pipeline
from orion_beam.runners.flink_parts.servers import Server, await_listening, launch, servers, stop
from orion_beam.runners.jars.build import Jars, guard_environment
from orion_beam.runners.worker_pool.pool import PoolLimits, worker_pool
from orion_beam.runners.worker_pool.versions import with_versions
from orion_beam.runners.worker_pool.worker import silence_lost_peers
from orion_beam.telemetry.run_counters import RowOutcome, outcomes_of

_T = TypeVar("_T")

Build = Callable[[beam.Pipeline, JobConfig], None]
"""Function that builds the graph of a job."""

EMBEDDED_MASTER = "[local]"

_DEFAULTS = {
    "--runner": "FlinkRunner",
    "--streaming": None,
    "--flink_master": EMBEDDED_MASTER,
    "--parallelism": "2",
    # In milliseconds. A restart repeats what came after the last checkpoint, so this bounds the repeated work.
    "--checkpointing_interval": "10000",
    # The last checkpoint outlives a job that is cancelled or fails. It is kept where state.checkpoints.dir says.
    "--externalized_checkpoints_enabled": None,
    "--retain_externalized_checkpoints_on_cancellation": None,
    # An element is a frame of up to MAX_ROWS records. A bundle ends by time; it ends by size only under load.
    "--max_bundle_size": "64",
    "--max_bundle_time_mills": "20",
    # Without these two options, throughput is a third lower.
    "--faster_copy": None,
    "--disable_metrics": None,
    # One Python process for each core. In one process, the threads of two bundles wait for each other half of the time.
    "--sdk_worker_parallelism": "2",
    # Without this, Beam first runs `pip freeze` and stages its output, which nobody reads.
    "--experiments": "disable_logging_submission_environment",
}

_OF_STREAMS = {
    "--streaming",
    "--checkpointing_interval",
    "--externalized_checkpoints_enabled",
    "--retain_externalized_checkpoints_on_cancellation",
    "--disable_metrics",
}
"""The defaults that a bounded job does not get. It needs metrics: its counters are read when it has ended."""

HEAP_VARIABLE = "ORION_FLINK_HEAP_MB"
"""Environment variable with the heap of embedded Flink in MiB."""
_HEAP_MB = "2048"
_LEAST_HEAP_MB = 512

_JVM = ("-XX:+UseParallelGC", "-XX:TieredStopAtLevel=1")
"""JVM options of embedded Flink. The optimizing compiler is off: in a JVM that lives for minutes it costs more than it
saves."""


def embedded_heap_mb() -> int:
    """Return the heap of embedded Flink in MiB.

    Raises:
        UserError: the environment gives a heap that is no number of MiB, too small, or more than this machine has.
    """
    text = os.environ.get(HEAP_VARIABLE) or _HEAP_MB
    most = psutil.virtual_memory().total >> 20
    if not re.fullmatch("[0-9]{1,9}", text) or not _LEAST_HEAP_MB <= int(text) <= max(most, _LEAST_HEAP_MB):
        raise UserError(f"{HEAP_VARIABLE} is {text!r}: give {_LEAST_HEAP_MB} to {most}, this machine's memory in MiB")
    return int(text)


def _jvm_of(options: PipelineOptions) -> list[str]:
    """Return the JVM options of embedded Flink.

    In a bounded job Python reads the records, so a small young generation is enough for the JVM. In a stream the JVM
    reads them, and frames of megabytes soon become garbage, so the young generation is large. Memory that a process
    touches for the first time is slow to get. The JVM of a stream therefore touches all of its memory at its start,
    while the job is built, and not when the first records arrive.

    Raises:
        UserError: see `embedded_heap_mb`.
    """
    heap = embedded_heap_mb()
    if not options.view_as(StandardOptions).streaming:
        return [*_JVM, f"-Xmx{heap}m", f"-Xmn{min(300, heap // 2)}m"]
    touched = ("-XX:+UseTransparentHugePages", "-XX:+AlwaysPreTouch")
    return [*_JVM, f"-Xmx{heap}m", f"-Xms{heap}m", f"-Xmn{heap * 7 // 10}m", *touched]


_STREAM_CONF_DIR = Path(__file__).parent / "flink_parts" / "flink_conf"
"""Flink's settings for a stream on embedded Flink, unless the user names another directory. A bounded job does not get
them, so Flink does not restart it: its caller starts it again for the work that is not done."""

_JOB_FAILED = "the Flink job has ended; start it again, and it goes on behind its last checkpoint"
_MAX_REASON = 300
_CLUSTER_DEADLINE_S = 300.0
"""Longest time without an answer of the JobManager (leader election, restart) before its job counts as lost."""


class LeaseOptions(PipelineOptions):  # type: ignore[misc]
    """Beam's options of this product: the identity of a submission, which the readers in Java need."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--orion_lease", help=argparse.SUPPRESS)
        parser.add_argument("--orion_second_job", action="store_true", help=argparse.SUPPRESS)


class TerminatedError(BaseException):
    """The exception for SIGTERM, as KeyboardInterrupt is for SIGINT."""


def flink_arguments(jars: Jars, beam_arguments: Sequence[str], *, bounded: bool = False) -> list[str]:
    """Return Beam's options for a stream or a bounded job on Flink: the user's options, and defaults for the others.

    The address of a worker pool gets the job's versions, by which the pool judges the job.
    """
    given = {argument.partition("=")[0] for argument in beam_arguments} | (_OF_STREAMS if bounded else set())
    defaults = dict(_DEFAULTS) | {"--flink_job_server_jar": str(jars.flink_job_server)}
    kept = [name if value is None else f"{name}={value}" for name, value in defaults.items() if name not in given]
    return with_versions([*kept, *beam_arguments])


def run_flink(
    config: JobConfig, arguments: Sequence[str], metrics_listen: str | None = None, build: Build = build_pipeline
) -> None:
    """Run a job until it is cancelled (Ctrl-C or SIGTERM) or fails.

    Args:
        config: The job; its source and sink are Kafka.
        arguments: Beam's options, see `flink_arguments`.
        metrics_listen: Address (`host:port`) at which embedded Flink's workers serve their metrics; None for nowhere.
        build: Function that builds the job's graph.

    Raises:
        KeyboardInterrupt: After Ctrl-C. The job is cancelled and its JVMs have ended.
        TerminatedError: After SIGTERM, likewise.
        JobFailedError: The job ended by itself.
        UserError: Another job of the group holds the lease, so this one has ended.
        ServiceFailedError: A JVM of the job does not start.
    """
    with _flink(arguments, metrics_listen) as all_arguments:
        _run(config, all_arguments, build)
    raise JobFailedError(_JOB_FAILED)


def run_flink_bounded(
    config: JobConfig, arguments: Sequence[str], advance: Advance | None = None
) -> dict[RowOutcome, int]:
    """Run a bounded job to its end.

    Args:
        config: The job.
        arguments: Beam's options, see `flink_arguments`.
        advance: Called repeatedly with the number of offsets read since the last call; never called on a cluster.

    Returns:
        The number of rows by outcome.

    Raises:
        KeyboardInterrupt, TerminatedError, ServiceFailedError: As `run_flink`.
        JobFailedError: The job failed.
    """
    with _flink(arguments, advance=advance) as all_arguments:
        return outcomes_of(_run(config, all_arguments))


@contextmanager
def _flink(
    arguments: Sequence[str], metrics_listen: str | None = None, advance: Advance | None = None
) -> Iterator[list[str]]:
    """Prepare this process for a job on Flink; yield Beam's options for it."""
    signal.signal(signal.SIGTERM, _terminate)
    FlinkBeamJob.cancel = _cancel_on_cluster
    FlinkBeamJob.get = _get_from_cluster
    with building(), _embedded(arguments, metrics_listen, advance) as options:
        yield [*arguments, *options]


@contextmanager
def building() -> Iterator[None]:
    """Let this process build pipelines: with a temporary directory, and JVMs that end with the block."""
    os.environ.update(guard_environment())
    logging.getLogger("apache_beam.options.pipeline_options").addFilter(_is_not_about_options)
    with _scratch(), servers():
        yield


@contextmanager
def _scratch() -> Iterator[None]:
    """Use a temporary directory for this job only, since Beam and Flink leave files behind in theirs."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="orion-beam-", ignore_cleanup_errors=True) as directory:
        tempfile.tempdir = directory
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextmanager
def _embedded(arguments: Sequence[str], metrics_listen: str | None, advance: Advance | None) -> Iterator[list[str]]:
    """Start the workers of embedded Flink; yield the options for them and for Flink's settings.

    Options that the user gives win. A cluster has settings and workers of its own.
    """
    given = {argument.partition("=")[0] for argument in arguments}
    if f"--flink_master={EMBEDDED_MASTER}" not in arguments:
        yield []
        return
    has_own = "--flink_conf_dir" in given or "--streaming" not in given
    settings = [] if has_own else [f"--flink_conf_dir={_STREAM_CONF_DIR}"]
    if "--environment_type" in given:
        yield settings
        return
    workers = str(PipelineOptions(list(arguments)).view_as(PortableOptions).sdk_worker_parallelism)
    # Beam accepts any text as this number; Flink refuses it later.
    spares = int(workers) if workers.isdecimal() else 0
    with worker_pool(metrics_listen=metrics_listen, limits=PoolLimits(spares=spares), advance=advance) as address:
        yield [*settings, "--environment_type=EXTERNAL", f"--environment_config={address}"]


def _run(config: JobConfig, arguments: Sequence[str], build: Build = build_pipeline) -> PipelineResult:
    on_interrupt = signal.getsignal(signal.SIGINT)
    result = _start(config, arguments, build)
    silence_lost_peers()
    # Beam's own handler of SIGINT stops the JVM first, and then nothing is left to cancel the job.
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        result.wait_until_finish()
    except (KeyboardInterrupt, TerminatedError):
        _silence()
        with suppress(Exception):
            result.cancel()
        raise
    except grpc.RpcError:
        _silence()
        raise JobFailedError(f"{_JOB_FAILED} (its JVM is gone)") from None
    except Exception as error:
        _silence()
        if refusal := refusal_in(str(error)):
            raise UserError(refusal) from None
        reason = str(error).strip().partition("\n")[0][:_MAX_REASON] or type(error).__name__
        raise JobFailedError(f"{_JOB_FAILED} ({reason})") from None
    return result


def _start(config: JobConfig, arguments: Sequence[str], build: Build) -> PipelineResult:
    """Submit the job.

    Raises:
        ServiceFailedError: Its JVMs do not start.
    """

    def submit() -> PipelineResult:
        options = PipelineOptions(list(arguments), save_main_session=False)
        job_server = _embedded_job_server(options)
        try:
            pipeline = built_pipeline(config, options, build)
            if job_server:
                await_listening(job_server)
                pipeline.options.view_as(PortableOptions).job_endpoint = job_server[1]
            return pipeline.run()
        except RuntimeError:
            if job_server:
                stop(job_server, is_whole=False)  # the next attempt starts another one
            raise

    return starting_jvms(submit, _jvm_of(PipelineOptions(list(arguments))))


def built_pipeline(config: JobConfig, options: PipelineOptions, build: Build = build_pipeline) -> beam.Pipeline:
    """Build the pipeline of a job. All its reads share one expansion service, instead of a JVM each."""
    if isinstance(config.source, KafkaSource):
        submission = options.view_as(LeaseOptions)
        submission.orion_lease, submission.orion_second_job = config.source.lease, config.source.second_job
    with SubprocessServer.cache_subprocesses():
        pipeline = beam.Pipeline(options=options)
        build(pipeline, config)
        return pipeline


def starting_jvms(start: Callable[[], _T], jvm_options: Sequence[str] = (), attempts: int = 3) -> _T:
    """Call a function that starts JVMs, again when one of them does not start.

    Beam picks free ports before its JVMs bind them, so that another process may take a port in between.

    Raises:
        ServiceFailedError: No attempt could start its JVMs.
    """
    try:
        return start()
    except RuntimeError as error:
        if "failed to start up" not in str(error):
            raise
        if attempts == 1:
            options_of_ours = [] if "JDK_JAVA_OPTIONS" in os.environ else jvm_options
            say_why = " ".join(["java", *options_of_ours, "-version"])
            raise ServiceFailedError(f"a JVM of the job does not start: {error}; `{say_why}` may show why") from None
        return starting_jvms(start, jvm_options, attempts - 1)


def _embedded_job_server(options: PipelineOptions) -> Server | None:
    """Start the JVM of embedded Flink now, while the job is built; Beam starts it only afterwards.

    Returns:
        The JVM and its address; None when the job goes to a cluster or to another job server.
    """
    master = options.view_as(FlinkRunnerOptions).flink_master
    if master != EMBEDDED_MASTER or options.view_as(PortableOptions).job_endpoint:
        return None
    command, endpoint = FlinkJarJobServer(options).subprocess_cmd_and_endpoint()
    java, *rest = map(str, command)
    port = int(endpoint.rpartition(":")[2])
    log = logging.getLogger(FlinkJarJobServer.__name__)
    return launch([java, f"-Djava.io.tmpdir={tempfile.gettempdir()}", *rest], port, _jvm_of(options), log)


def _cancel_on_cluster(job: FlinkBeamJob) -> None:
    """Cancel a job that was submitted as one jar. Beam 2.70 itself posts to a path that Flink does not have."""
    FlinkRest(job._master_url).cancel(job._flink_job_id)
    job.delete_jar()


def _get_from_cluster(job: FlinkBeamJob, path: str) -> Any:
    """Ask a cluster for a job's state, with retries. Beam itself takes one broken connection for the end of the job."""
    return FlinkRest(job._master_url).get(path.removeprefix("v1/"), _CLUSTER_DEADLINE_S)


def _silence() -> None:
    """Stop all logging and thread tracebacks: Beam's threads are about to lose the JVM and would log that at length."""
    logging.disable()
    threading.excepthook = lambda _: None
    # The JVM's shutdown hook and Beam's remove the same temporary directory, and Beam's fails when it comes second.
    shutil.rmtree = partial(shutil.rmtree, ignore_errors=True)  # type: ignore[assignment]


def _is_not_about_options(record: logging.LogRecord) -> bool:
    """Return whether a log record is another than Beam's warning of an option that it does not know.

    Beam warns of each of Flink's options until it has asked the job server for them. `check_beam_options` has checked
    them already.
    """
    return "Unparseable argument" not in record.msg


def _terminate(_: int, __: FrameType | None) -> None:
    raise TerminatedError
