"""Runs a job as a stream on Flink: embedded in a JVM of ours, or a cluster."""

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import apache_beam as beam
import grpc
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

from orion_beam.config import JobConfig
from orion_beam.errors import JobFailedError, ServiceFailedError
from orion_beam.kafka.offset_ranges import Advance
from orion_beam.monitoring.flink_rest import FlinkRest
from orion_beam.pipeline import build_pipeline
from orion_beam.runners.flink_parts.servers import Server, await_listening, launch, servers, stop
from orion_beam.runners.flink_parts.workers import silence_lost_peers, worker_pool
from orion_beam.runners.jars.build import Jars, guard_environment
from orion_beam.telemetry.run_counters import RowOutcome, outcomes_of

EMBEDDED_MASTER = "[local]"

_DEFAULTS = {
    "--runner": "FlinkRunner",
    "--streaming": None,
    "--flink_master": EMBEDDED_MASTER,
    "--parallelism": "2",
    # A restart goes on behind the last checkpoint: this much is done again at most.
    "--checkpointing_interval": "10000",
    # Elements are frames of up to MAX_ROWS records: a bundle ends by time, and by size only under load.
    "--max_bundle_size": "64",
    "--max_bundle_time_mills": "20",
    # Without these two a third of the throughput is gone.
    "--faster_copy": None,
    "--disable_metrics": None,
    # One Python process for each core: in one process the threads of two bundles wait for each other half of the time.
    "--sdk_worker_parallelism": "2",
    # Beam would run `pip freeze` first and stage what it prints, for nobody to read.
    "--experiments": "disable_logging_submission_environment",
}

_OF_STREAMS = {"--streaming", "--checkpointing_interval", "--disable_metrics"}
"""Of these, what a bounded job is not given: it ends, and then says what it has counted."""

_JVM = ("-Xmx2g", "-XX:+UseParallelGC", "-XX:TieredStopAtLevel=1")
"""Of embedded Flink: for the minutes that its JVM lives, its optimizing compiler costs more than it saves."""

_BOUNDED_JVM = (*_JVM, "-Xmn300m")
"""Python reads what a replay replays: the JVM has nothing to keep, and new memory is slow to come."""

_STREAM_JVM = (*_JVM, "-Xms2g", "-Xmn1400m", "-XX:+UseTransparentHugePages", "-XX:+AlwaysPreTouch")
"""Frames of megabytes die young, in a large young generation. Its memory is there before the first record is: the JVM
starts while the job is built."""

_STREAM_CONF_DIR = Path(__file__).parent / "flink_parts" / "flink_conf"
"""Of a stream on embedded Flink, unless the user names another. A bounded job is not restarted: whoever started it goes
on behind what is done."""

_JOB_FAILED = "the Flink job has ended; start it again, and it goes on behind its last checkpoint"
_MAX_REASON = 300
_CLUSTER_DEADLINE_S = 300.0
"""How long a JobManager may be away, electing a leader or starting anew, until its job counts as lost."""


class TerminatedError(BaseException):
    """SIGTERM came: a KeyboardInterrupt of another name."""


def flink_arguments(jars: Jars, beam_arguments: Sequence[str], *, bounded: bool = False) -> list[str]:
    """Return Beam's options for Flink, as a stream or bounded: our defaults, where the user has not said otherwise."""
    given = {argument.partition("=")[0] for argument in beam_arguments} | (_OF_STREAMS if bounded else set())
    defaults = dict(_DEFAULTS) | {"--flink_job_server_jar": str(jars.flink_job_server)}
    kept = [name if value is None else f"{name}={value}" for name, value in defaults.items() if name not in given]
    return [*kept, *beam_arguments]


def run_flink(config: JobConfig, arguments: Sequence[str], metrics_listen: str | None = None) -> None:
    """Run a job until it is cancelled (Ctrl-C or SIGTERM) or fails.

    Args:
        config: the job; source and sink are Kafka.
        arguments: Beam's options, see `flink_arguments`.
        metrics_listen: where embedded Flink's workers serve their metrics, as `host:port`; None: nowhere.

    Raises:
        KeyboardInterrupt: after Ctrl-C; TerminatedError: after SIGTERM. The job is cancelled, its JVMs are gone.
        JobFailedError: the job ended by itself.
    """
    with _flink(arguments, metrics_listen) as all_arguments:
        _run(config, all_arguments)
    raise JobFailedError(_JOB_FAILED)


def run_flink_bounded(
    config: JobConfig, arguments: Sequence[str], advance: Advance | None = None
) -> dict[RowOutcome, int]:
    """Run a bounded job to its end.

    Args:
        config: the job.
        arguments: Beam's options, see `flink_arguments`.
        advance: told how many offsets further the job's replay is, as it gets on; on a cluster never.

    Returns:
        How many rows had which outcome.

    Raises:
        KeyboardInterrupt, TerminatedError: as `run_flink`.
        JobFailedError: the job failed.
    """
    with _flink(arguments, advance=advance) as all_arguments:
        return outcomes_of(_run(config, all_arguments))


@contextmanager
def _flink(
    arguments: Sequence[str], metrics_listen: str | None = None, advance: Advance | None = None
) -> Iterator[list[str]]:
    """Set up what a job on Flink needs of this process; give its options."""
    os.environ.update(guard_environment())
    signal.signal(signal.SIGTERM, _terminate)
    logging.getLogger("apache_beam.options.pipeline_options").addFilter(_is_not_about_options)
    FlinkBeamJob.cancel = _cancel_on_cluster
    FlinkBeamJob.get = _get_from_cluster
    with _scratch(), servers(), _embedded(arguments, metrics_listen, advance) as options:
        yield [*arguments, *options]


@contextmanager
def _scratch() -> Iterator[None]:
    """Have a temporary directory of this job's own, as Beam and Flink do not remove all that they write to it."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="orion-beam-", ignore_cleanup_errors=True) as directory:
        tempfile.tempdir = directory
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextmanager
def _embedded(arguments: Sequence[str], metrics_listen: str | None, advance: Advance | None) -> Iterator[list[str]]:
    """Give embedded Flink settings and workers of ours, unless the user has others; a cluster has its own."""
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
    # Beam takes any text for a number here; Flink is the one to refuse it.
    spares = int(workers) if workers.isdecimal() else 0
    with worker_pool(metrics_listen=metrics_listen, spares=spares, advance=advance) as address:
        yield [*settings, "--environment_type=EXTERNAL", f"--environment_config={address}"]


def _run(config: JobConfig, arguments: Sequence[str]) -> PipelineResult:
    on_interrupt = signal.getsignal(signal.SIGINT)
    result = _start(config, arguments)
    silence_lost_peers()
    # Beam's own handler of SIGINT would stop the JVM first, and then there is nobody left to cancel the job.
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
        reason = str(error).strip().partition("\n")[0][:_MAX_REASON] or type(error).__name__
        raise JobFailedError(f"{_JOB_FAILED} ({reason})") from None
    return result


def _start(config: JobConfig, arguments: Sequence[str], attempts: int = 3) -> PipelineResult:
    """Submit the job. Beam picks free ports before its JVMs bind them: one that was lost in between is tried again.

    Raises:
        ServiceFailedError: a JVM does not start.
    """
    options = PipelineOptions(list(arguments), save_main_session=False)
    job_server = _embedded_job_server(options)
    try:
        # One expansion service for all reads, not a JVM each.
        with SubprocessServer.cache_subprocesses():
            pipeline = beam.Pipeline(options=options)
            build_pipeline(pipeline, config)
        if job_server:
            await_listening(job_server)
            pipeline.options.view_as(PortableOptions).job_endpoint = job_server[1]
        return pipeline.run()
    except RuntimeError as error:
        if "failed to start up" not in str(error):
            raise
        if job_server:
            stop(job_server, is_whole=False)  # with the next attempt comes another
        if attempts == 1:
            options_of_ours = [] if "JDK_JAVA_OPTIONS" in os.environ else _jvm_of(options)
            say_why = " ".join(["java", *options_of_ours, "-version"])
            raise ServiceFailedError(f"a JVM of the job does not start: {error}; `{say_why}` may say why") from None
        return _start(config, arguments, attempts - 1)


def _embedded_job_server(options: PipelineOptions) -> Server | None:
    """Start the JVM of embedded Flink; Beam would when the job is built. None: the job goes elsewhere."""
    master = options.view_as(FlinkRunnerOptions).flink_master
    if master != EMBEDDED_MASTER or options.view_as(PortableOptions).job_endpoint:
        return None
    command, endpoint = FlinkJarJobServer(options).subprocess_cmd_and_endpoint()
    java, *rest = map(str, command)
    port = int(endpoint.rpartition(":")[2])
    log = logging.getLogger(FlinkJarJobServer.__name__)
    return launch([java, f"-Djava.io.tmpdir={tempfile.gettempdir()}", *rest], port, _jvm_of(options), log)


def _jvm_of(options: PipelineOptions) -> Sequence[str]:
    return _STREAM_JVM if options.view_as(StandardOptions).streaming else _BOUNDED_JVM


def _cancel_on_cluster(job: FlinkBeamJob) -> None:
    """Cancel a job that was submitted as one jar; Beam 2.70 itself posts to a path that Flink does not have."""
    FlinkRest(job._master_url).cancel(job._flink_job_id)
    job.delete_jar()


def _get_from_cluster(job: FlinkBeamJob, path: str) -> Any:
    """Ask a cluster for a job's state; Beam takes one broken connection for the end of a job that goes on."""
    return FlinkRest(job._master_url).get(path.removeprefix("v1/"), _CLUSTER_DEADLINE_S)


def _silence() -> None:
    """Keep the threads of Beam, which lose their peers now, from saying so at length."""
    logging.disable()
    threading.excepthook = lambda _: None
    # The JVM's shutdown hook and Beam's remove the same temporary directory, and Beam's minds being second.
    shutil.rmtree = partial(shutil.rmtree, ignore_errors=True)  # type: ignore[assignment]


def _is_not_about_options(record: logging.LogRecord) -> bool:
    """Beam warns of each option of Flink's until it has asked the job server for them; ours are checked already."""
    return "Unparseable argument" not in record.msg


def _terminate(_: int, __: FrameType | None) -> None:
    raise TerminatedError
