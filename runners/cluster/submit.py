"""Submission of a job's jar to a Flink cluster, by its REST API."""

import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orion_beam.config import JobConfig
from orion_beam.errors import JobFailedError, UserError
from orion_beam.monitoring.flink_rest import ENDED_STATES, FlinkRefusedError, FlinkRest
from orion_beam.runners.cluster.job_jar import JobManifest, write_job_jar
from orion_beam.runners.jars.build import PIPELINE_RUNNER, Report, silent
from orion_beam.runners.job_target import JobTarget

_PATIENCE_S = 120.0
"""Longest time without an answer of a JobManager that elects a leader or restarts."""
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class SubmittedJob:
    """A job on a cluster.

    Attributes:
        id: Flink's id of the job.
        name: Name of the job.
        address: Address of the cluster's REST API.
    """

    id: str
    name: str
    address: str

    @property
    def page(self) -> str:
        """Address of the job's page in Flink's web interface."""
        return f"{self.address}/#/job/running/{self.id}/overview"


def submit(
    config: JobConfig,
    options: Sequence[str],
    *,
    savepoint: str | None = None,
    allow_non_restored: bool = False,
    report: Report = silent,
) -> SubmittedJob:
    """Build the jar of a job, and start it on the cluster that Beam's options name.

    Args:
        config: The job.
        options: Beam's options that the user gives, with --flink_master.
        savepoint: Path of a savepoint or a retained checkpoint to restore from; None to begin at committed offsets.
        allow_non_restored: Whether to start although the savepoint has state that no step of the job takes.
        report: Receives progress lines.

    Raises:
        UserError: The cluster does not answer or does not take the job. Nothing has been changed.
        PrerequisiteError, ServiceFailedError: See `write_job_jar`.
    """
    address = JobTarget.of(options).master
    if address is None:
        raise UserError("no cluster to submit to: give --flink_master=http://HOST:PORT, Flink's REST address")
    with tempfile.TemporaryDirectory(prefix="orion-beam-") as directory:
        jar = Path(directory, "job.jar")
        write_job_jar(config, options, jar, report)
        return start_jar(jar, address, savepoint=savepoint, allow_non_restored=allow_non_restored, report=report)


def start_jar(
    jar: Path, address: str, *, savepoint: str | None = None, allow_non_restored: bool = False, report: Report = silent
) -> SubmittedJob:
    """Start the job of a jar on a cluster; see `submit`.

    The cluster drops the uploaded file again, once it has started the job from it: the job's own copy is in Flink's
    store of blobs.
    """
    manifest = JobManifest.of(jar)
    rest = FlinkRest(address)
    name = f"{manifest.name}-{manifest.configuration}.jar"
    report(f"uploading {manifest.name}, {jar.stat().st_size / 1e6:.0f} MB, to {address}")
    try:
        uploaded = rest.upload(jar, name)
        try:
            # With an id that is chosen here, a repeated request cannot start a second job.
            request: dict[str, object] = {"entryClass": PIPELINE_RUNNER, "jobId": uuid.uuid4().hex}
            if savepoint is not None:
                request |= {"savepointPath": savepoint, "allowNonRestoredState": allow_non_restored}
            job_id = str(rest.post(f"jars/{uploaded}/run", request)["jobid"])
        finally:
            rest.delete(f"jars/{uploaded}")
    except FlinkRefusedError as error:
        raise UserError(f"{address} does not take the job: {error}") from None
    except OSError as error:
        raise UserError(f"{address} does not answer as Flink's REST API does ({error}); check --flink_master") from None
    return SubmittedJob(job_id, manifest.name, address)


def await_running(job: SubmittedJob, timeout_s: float) -> None:
    """Wait until all tasks of a job run and its first checkpoint is complete.

    Raises:
        JobFailedError: The job has ended, or this takes longer than `timeout_s`. The message says why.
    """
    rest = FlinkRest(job.address)
    give_up = time.monotonic() + timeout_s
    while True:
        state = rest.get(f"jobs/{job.id}", _PATIENCE_S)["state"]
        if state in ENDED_STATES:
            raise JobFailedError(f"job {job.id} has ended before its first checkpoint: {root_cause(job)}")
        checkpoints = rest.get(f"jobs/{job.id}/checkpoints", _PATIENCE_S)
        if checkpoints["counts"]["completed"]:
            return
        if time.monotonic() > give_up:
            raise JobFailedError(
                f"job {job.id} has completed no checkpoint within {timeout_s:.0f} s: {root_cause(job)}"
            )
        time.sleep(_LOOK_EVERY_S)


def root_cause(job: SubmittedJob) -> str:
    """Return the innermost cause of a job's latest failure, in Flink's words; `no failure is known` without one."""
    entries = FlinkRest(job.address).get(f"jobs/{job.id}/exceptions", _PATIENCE_S)["exceptionHistory"]["entries"]
    return str(FlinkRefusedError(0, entries[0]["stacktrace"])) if entries else "no failure is known"
