"""Submission of a stream to a Flink cluster, as `submit` does it, and `run` with a cluster's address."""

import json
import logging
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import typer

from orion_beam.cli.shared import interrupts
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.stream import Stream
from orion_beam.errors import JobFailedError, UserError
from orion_beam.telemetry.logs import say

with late_imports():
    from orion_beam.jobs.cluster_jobs import job_meant, jobs_on
    from orion_beam.jobs.events import JobAction, JobEvent
    from orion_beam.jobs.history import require_history
    from orion_beam.kafka import CONFIG_VARIABLE
    from orion_beam.kafka.login import ends_with_this_process
    from orion_beam.monitoring.flink_rest import FlinkRest
    from orion_beam.monitoring.minute import telling
    from orion_beam.runners.cluster.held_signals import held_signals, pass_on
    from orion_beam.runners.cluster.job_jar import JobManifest, configuration_hash, write_job_jar
    from orion_beam.runners.cluster.replace import (
        Replacement,
        launch_job,
        note_event,
        plan_replacement,
        replace_job,
        require_same_graph,
        way_back,
    )
    from orion_beam.runners.cluster.submit import (
        RunningJob,
        SubmittedJob,
        await_checkpoint,
        await_end,
        check_capacity,
        check_cluster,
        running_jobs,
        same_job,
    )
    from orion_beam.runners.jars.build import ensure_jars, planned_jars
    from orion_beam.runners.job_target import JobTarget

PATIENCE_S = 300.0
"""Longest wait for the first checkpoint of a job, by default."""
CANCEL_WITHIN_S = 2.0
"""Time after a first Ctrl-C within which a second one cancels the job."""


def write_jar(stream: Stream, beam_options: Sequence[str], path: Path) -> JobManifest:
    """Write the self-contained jar of a stream.

    Raises:
        UserError: The path cannot be written, or the jar cannot be built.
    """
    _warn_of_login()
    return write_job_jar(stream.config(str(ensure_jars(say).expansion_service)), beam_options, path, say)


@dataclass(frozen=True)
class Submission:
    """How a job is submitted.

    Attributes:
        savepoint: See `cluster.submit.start_jar`. None: that of Beam's options, if there is one.
        allow_non_restored: See `cluster.submit.start_jar`.
        allow_second_job: Whether a job of the same group may run.
        replace: Whether the job takes the place of one that runs, if one does.
        savepoint_dir: Where the savepoint of that one goes; None for the cluster's own directory.
        patience_s: Longest wait for the first checkpoint.
    """

    savepoint: str | None = None
    allow_non_restored: bool = False
    allow_second_job: bool = False
    replace: bool = False
    savepoint_dir: str | None = None
    patience_s: float = PATIENCE_S


def submit_streams(
    streams: Sequence[Stream], beam_options: Sequence[str], submission: Submission
) -> list[SubmittedJob]:
    """Submit streams to the cluster that Beam's options name, and wait for the first checkpoint of each.

    What can be checked is checked for all of them before the first one is submitted.

    Args:
        streams: The streams, each to become a job.
        beam_options: Beam's options.
        submission: How they are submitted.

    Raises:
        UserError: A job cannot run. The message names what is wrong and the fix.
        JobFailedError: A job has ended, or has no checkpoint in time.
    """
    _warn_of_login()
    # What is submitted lives on when SIGTERM ends this command.
    interrupts.clean_up_on_sigterm()
    target = JobTarget.of(beam_options)
    assert target.master is not None
    check_cluster(target)
    # Building them takes minutes, and whatever is wrong is told before.
    jars = planned_jars()
    configs = [stream.config(str(jars.expansion_service), second_job=submission.allow_second_job) for stream in streams]
    running = [None if submission.allow_second_job else _running(target.master, stream) for stream in streams]
    for found, config in zip(running, configs, strict=True):
        if found is not None and not submission.replace:
            _refuse(target.master, found, configuration_hash(config, beam_options))
    check_capacity(target, running.count(None), _warn)
    for stream in streams:
        stream.check()
    require_history(streams[0].bootstrap_servers)
    for found, stream in zip(running, streams, strict=True):
        if found is None and not submission.allow_second_job:
            stream.await_free()
    ensure_jars(say)
    with tempfile.TemporaryDirectory(prefix="orion-beam-") as directory:
        built = [Path(directory, f"{place}.jar") for place in range(len(configs))]
        for config, jar in zip(configs, built, strict=True):
            write_job_jar(config, beam_options, jar, say)
        savepoint = submission.savepoint or target.savepoint
        if savepoint is not None and not (submission.allow_non_restored or target.allow_non_restored):
            require_same_graph(streams[0].bootstrap_servers, savepoint, built[0])
        plans = [
            None if found is None else _plan(target.master, stream, found, jar, submission)
            for stream, found, jar in zip(streams, running, built, strict=True)
        ]
        return _start_all(streams, built, plans, target, submission)


def _start_all(
    streams: Sequence[Stream],
    jars: Sequence[Path],
    plans: Sequence[Replacement | None],
    target: JobTarget,
    submission: Submission,
) -> list[SubmittedJob]:
    """Start the jobs, each in the place of the one that its plan names, and wait for their first checkpoints."""
    assert target.master is not None
    jobs: list[SubmittedJob] = []
    events: list[JobEvent] = []
    try:
        for stream, jar, plan in zip(streams, jars, plans, strict=True):
            # A job that the cluster accepts must be in the history, also if an interrupt comes just then.
            held: list[int] = []
            with ExitStack() as step:
                if plan is None:
                    held = step.enter_context(held_signals(_tell_of_interrupt))
                    event = _start(jar, stream, target, submission)
                    say(f"job {event.job_id} ({event.name}) is submitted; waiting for its first checkpoint")
                else:
                    event = replace_job(plan, JobAction.UPGRADED, timeout_s=submission.patience_s, report=say)
                events.append(event)
                jobs.append(SubmittedJob(event.job_id, event.name, target.master, JobManifest.of(jar)))
            pass_on(held)
        for stream, event, job in zip(streams, events, jobs, strict=True):
            if event.action is JobAction.SUBMITTED:
                _await_running(job, submission.patience_s)
                note_event(stream.bootstrap_servers, event.then(JobAction.RUNNING, savepoint=event.savepoint))
    except BaseException:
        for job in jobs:
            say(
                f"job {job.id} ({job.name}) was submitted: `orion-beam jobs show {job.id}` tells how it gets on,"
                f" `orion-beam jobs cancel {job.id}` ends it",
                logging.WARNING,
            )
        raise
    return jobs


def _tell_of_interrupt() -> None:
    say("a job is being submitted, so this waits until the cluster has it; a second interrupt ends the wait")


def _await_running(job: SubmittedJob, patience_s: float) -> None:
    try:
        await_checkpoint(job.address, job.id, patience_s, say)
    except OSError as error:
        raise JobFailedError(f"{job.address} does not tell how job {job.id} gets on ({error})") from None


def _start(jar: Path, stream: Stream, target: JobTarget, submission: Submission) -> JobEvent:
    assert target.master is not None
    return launch_job(
        jar,
        target.master,
        stream.bootstrap_servers,
        savepoint=submission.savepoint or target.savepoint,
        allow_non_restored=submission.allow_non_restored or target.allow_non_restored,
        report=say,
    )


def _plan(address: str, stream: Stream, running: RunningJob, jar: Path, submission: Submission) -> Replacement:
    """Check whether a stream's jar can take the place of a running job, before anything is changed."""
    job = job_meant(jobs_on(FlinkRest(address), address), running.id)
    event, old = way_back(address, stream.bootstrap_servers, job)
    directory = submission.savepoint_dir
    return plan_replacement(address, stream.bootstrap_servers, job, event, old, jar, savepoint_dir=directory)


def _running(address: str, stream: Stream) -> RunningJob | None:
    """Return the job on the cluster that reads a stream's group and countries already."""
    try:
        return same_job(running_jobs(address), stream.group_id, stream.countries)
    except OSError as error:
        raise UserError(f"{address} does not tell its jobs ({error}): check --flink_master") from None


def _refuse(address: str, found: RunningJob, configuration: str) -> NoReturn:
    """Refuse a stream whose group and countries a job on the cluster reads already."""
    same = "the same" if found.configuration == configuration else "another"
    raise UserError(
        f"job {found.id} ({found.name}, version {found.version}) runs on {address} already, as group {found.group}"
        f" with {same} configuration: --replace puts this job in its place, `orion-beam jobs stop` ends that one"
    )


def submit_and_stay(stream: Stream, beam_options: Sequence[str], *, allow_second_job: bool, quiet: bool) -> None:
    """Submit a stream and stay with it, as `submit --attached` does and `run` with a cluster's address."""
    (job,) = submit_streams([stream], beam_options, Submission(allow_second_job=allow_second_job))
    show_jobs([job], as_json=False)
    stay_attached(job, stream, quiet=quiet)


def show_jobs(jobs: Sequence[SubmittedJob], *, as_json: bool) -> None:
    """Print the jobs that run now, and where to look."""
    if as_json:
        typer.echo(json.dumps({"jobs": [_described(job) for job in jobs]}))
        return
    for job in jobs:
        typer.echo(f"{job.id}  {job.name}")
        typer.echo(f"  {job.page}")
        typer.echo(f"  orion-beam jobs show {job.id} --flink {job.address}")


def _described(job: SubmittedJob) -> dict[str, object]:
    about = job.manifest
    return {
        "id": job.id,
        "name": job.name,
        "cluster": job.address,
        "page": job.page,
        "group": about.group,
        "countries": list(about.countries),
        "parallelism": about.parallelism,
        "version": about.version,
        "configuration": about.configuration,
    }


def stay_attached(job: SubmittedJob, stream: Stream, *, quiet: bool) -> None:
    """Tell how a job gets on until it ends. Ctrl-C and SIGTERM end this command only; a second Ctrl-C cancels the job.

    Raises:
        JobFailedError: The job has ended by itself.
        typer.Exit: After Ctrl-C, with exit code 130; after SIGTERM, with 143.
    """
    needs = stream.needs
    with ExitStack() as lines:
        try:
            leave = f"Ctrl-C leaves it running, a second one within {CANCEL_WITHIN_S:.0f} s cancels it"
            say(f"attached to job {job.id}: {leave}")
            if not quiet:
                lines.enter_context(
                    telling(stream.bootstrap_servers, stream.group_id, needs.sources, stream.topics, say)
                )
            state = await_end(job)
        except KeyboardInterrupt:
            _detach(job)
            raise typer.Exit(interrupts.INTERRUPTED) from None
        except SystemExit:
            say(f"terminated: job {job.id} lives on, see {job.page}")
            raise
        except OSError as error:
            gone = f"{job.address} has not answered for minutes ({error}): job {job.id} may live on"
            raise JobFailedError(gone) from None
    raise JobFailedError(f"job {job.id} has ended on the cluster, as {state}: `orion-beam jobs show {job.id}` says why")


def _detach(job: SubmittedJob) -> None:
    """Say that a job lives on; cancel it if a second Ctrl-C comes soon."""
    try:
        say(f"detached: job {job.id} lives on, see {job.page}; Ctrl-C within {CANCEL_WITHIN_S:.0f} s cancels it")
        time.sleep(CANCEL_WITHIN_S)
    except KeyboardInterrupt:
        FlinkRest(job.address).cancel(job.id)
        say(f"job {job.id} is cancelled; offsets are committed up to the last checkpoint")


def _warn_of_login() -> None:
    """Warn of a login that the job cannot read when this command has ended."""
    if ends_with_this_process():
        _warn(
            "warning: the login to Kafka is known to this command only, and the job lives on: put a login file on each"
            f" host of task managers and workers, and name it in {CONFIG_VARIABLE} in their environment"
        )


def _warn(line: str) -> None:
    say(line, logging.WARNING)
