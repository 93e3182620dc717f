"""Submission of jobs to a Flink cluster, by its REST API."""

import re
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from orion_beam.doctor.findings import Status, require
from orion_beam.errors import JobFailedError, UserError
from orion_beam.kafka.lease import new_lease
from orion_beam.monitoring.failures import failure_reasons
from orion_beam.monitoring.flink_rest import ENDED_STATES, FlinkRefusedError, FlinkRest, passes
from orion_beam.runners.cluster.job_jar import JobManifest, orion_of
from orion_beam.runners.cluster.unread import UnreadRecords
from orion_beam.runners.doctor.flink_cluster import SLOTS, capacity_checks, check_flink
from orion_beam.runners.doctor.worker_pool import check_pool
from orion_beam.runners.jars.build import PIPELINE_RUNNER, Report, silent
from orion_beam.runners.job_target import JobTarget
from orion_beam.runners.worker_pool.versions import REFUSAL

_PATIENCE_S = 300.0
"""Longest time without an answer of a JobManager that elects a leader or restarts."""
_ANSWER_WITHIN_S = 10.0
"""Time in which a cluster must answer before anything is submitted. One that elects a leader has longer."""
_REGISTER_WITHIN_S = 30.0
"""Time in which TaskManagers find a new leader."""
_LOOK_EVERY_S = 0.2
_TELL_EVERY_S = 15.0
_RETRY_EVERY_S = 1.0
_UPLOAD_GONE = re.compile("Jar file .* does not exist")
"""What a JobManager says of a jar that was uploaded to another one."""
_SAME_FAILURES = 3
"""Failures for one reason after which a job that this waits for is given up."""
_RECORDS_WITHIN_S = 60.0
"""Time that a job has for its first records after its first checkpoint. If it has not failed by then, it passes: what
looks unread may be the marker of a transaction, which nobody reads."""


@dataclass(frozen=True)
class SubmittedJob:
    """A job on a cluster.

    Attributes:
        id: Flink's id of the job.
        name: Name of the job.
        address: Address of the cluster's REST API; of several JobManagers, separated by commas.
        manifest: What the jar says of the job.
    """

    id: str
    name: str
    address: str
    manifest: JobManifest

    @property
    def page(self) -> str:
        """Address of the job's page in Flink's web interface."""
        return f"{self.address.partition(',')[0]}/#/job/running/{self.id}/overview"


@dataclass(frozen=True)
class RunningJob:
    """A job of this product that a cluster runs.

    Attributes:
        id: Flink's id of the job.
        name: Name of the job.
        configuration: Hash of its configuration, see `configuration_hash`.
        version: Version of this product that built it.
        group: Its consumer group.
        countries: Countries that it reads.
    """

    id: str
    name: str
    configuration: str
    version: str
    group: str
    countries: tuple[str, ...]


def start_jar(
    jar: Path, address: str, *, savepoint: str | None = None, allow_non_restored: bool = False, report: Report = silent
) -> SubmittedJob:
    """Upload the jar of a job to a cluster and start it there.

    Args:
        jar: The jar.
        address: Address of the cluster's REST API.
        savepoint: Path of a savepoint or a retained checkpoint to restore from; None to begin at committed offsets.
        allow_non_restored: Whether to start although the savepoint has state that no step of the job takes.
        report: Receives progress lines.

    Raises:
        UserError: The cluster does not answer or does not take the job, for instance because it cannot restore the
            savepoint. No record has been read.
    """
    manifest = JobManifest.of(jar)
    # With an id that is chosen here, a request that is repeated cannot start a second job.
    request: dict[str, object] = {
        "entryClass": PIPELINE_RUNNER,
        "jobId": uuid.uuid4().hex,
        "programArgsList": [f"--lease={new_lease()}"],
    }
    if savepoint is not None:
        request |= {"savepointPath": savepoint, "allowNonRestoredState": allow_non_restored}
    report(f"uploading {manifest.name}, {jar.stat().st_size / 1e6:.0f} MB, to {address}")
    try:
        job_id = _upload_and_run(FlinkRest(address), jar, manifest.name, request, report)
    except FlinkRefusedError as error:
        what = "the job" if savepoint is None else f"the job with savepoint {savepoint}"
        raise UserError(f"{address} does not take {what}: {error}") from None
    except OSError as error:
        raise UserError(f"{address} does not answer as Flink's REST API does ({error}): check --flink_master") from None
    return SubmittedJob(job_id, manifest.name, address, manifest)


def _upload_and_run(rest: FlinkRest, jar: Path, name: str, request: Mapping[str, object], report: Report) -> str:
    """Upload a jar, run it, and return the job's id. Try again while the cluster starts, is busy or elects a leader."""
    give_up = time.monotonic() + _PATIENCE_S
    for attempt in count(1):
        try:
            jar_id = rest.upload(jar, f"{name}.jar")
            try:
                return str(rest.post(f"jars/{jar_id}/run", request)["jobid"])
            finally:
                # A job that runs has its own copy, in Flink's store of blobs.
                with suppress(OSError):
                    rest.delete(f"jars/{jar_id}")
        except OSError as error:
            refusal = error.text if isinstance(error, FlinkRefusedError) else ""
            if "DuplicateJobSubmissionException" in refusal:
                # An earlier attempt has reached the cluster, and its answer has not come back.
                return str(request["jobId"])
            if time.monotonic() >= give_up or not (passes(error) or _UPLOAD_GONE.search(refusal)):
                raise
            if attempt == 1:
                report(f"the cluster does not accept the jar now ({error}): asking again for up to {_PATIENCE_S:.0f} s")
        time.sleep(_RETRY_EVERY_S)
    raise AssertionError("the loop ends by itself")


def check_cluster(target: JobTarget) -> None:
    """Check that a cluster and its worker pool answer and have the right versions, before anything is changed.

    Raises:
        PrerequisiteError: One does not. The message names what is wrong and the fix.
    """
    assert target.master is not None
    require([check_flink(target.master, _ANSWER_WITHIN_S)])
    if target.pool is not None:
        require([check_pool(target.pool, target.master)])


def check_capacity(target: JobTarget, jobs: int, warn: Report) -> None:
    """Check that a cluster has slots for new jobs, before anything is changed.

    Args:
        target: The cluster, and the place of each job on it.
        jobs: Number of jobs.
        warn: Receives what a job can live with.

    Raises:
        PrerequisiteError: It has not. The message names the numbers and the fix.
    """
    assert target.master is not None
    for check in capacity_checks(target.master, target.parallelism * jobs, wait_s=_REGISTER_WITHIN_S):
        if check.name == SLOTS:
            require([check] if jobs else [])
        elif check.status is Status.WARNING:
            warn(f"warning: {check.name}: {check.found}; {check.fix}")


def running_jobs(address: str) -> Iterator[RunningJob]:
    """Yield the jobs of this product that a cluster runs or restarts.

    Raises:
        OSError: The cluster does not answer.
    """
    rest = FlinkRest(address)
    for job in rest.get("jobs/overview", _PATIENCE_S)["jobs"]:
        if job["state"] in ENDED_STATES:
            continue
        # Another job has no configuration yet, or none of ours.
        shown = (rest.get(f"jobs/{job['jid']}/config").get("execution-config") or {}).get("user-config") or {}
        about = orion_of(shown)
        if "configuration" in about:
            countries = tuple(about["countries"].split(","))
            yield RunningJob(
                job["jid"], job["name"], about["configuration"], about["version"], about["group"], countries
            )


def same_job(running: Iterable[RunningJob], group: str, countries: Collection[str]) -> RunningJob | None:
    """Return a running job of a group that reads one of these countries; None if there is none."""
    return next((job for job in running if job.group == group and not set(countries).isdisjoint(job.countries)), None)


def await_checkpoint(
    address: str, job_id: str, timeout_s: float, report: Report = silent, unread: UnreadRecords | None = None
) -> None:
    """Wait until all tasks of a job run and its first checkpoint is complete.

    Args:
        address: Address of the cluster.
        job_id: Flink's id of the job.
        timeout_s: Longest wait.
        report: Receives a line now and then.
        unread: Records that waited for the job. This also waits until the job has processed some of each topic. A job
            that does not fail has a minute for that, and then passes.

    Raises:
        UserError: The worker pool refuses the job, which is cancelled: Flink would start it again and again.
        JobFailedError: The job has ended, fails again and again for the same reason, or is too late; says why.
        OSError: The cluster does not answer any more.
    """
    rest = FlinkRest(address)
    path = f"jobs/{job_id}"
    began = told = time.monotonic()
    first_at: float | None = None
    while True:
        state = rest.get(path, _PATIENCE_S)["state"]
        if first_at is None and rest.get(f"{path}/checkpoints", _PATIENCE_S)["counts"]["completed"]:
            first_at = time.monotonic()
        left = unread.topics_left() if unread is not None and first_at is not None else []
        if first_at is not None and not left:
            return
        failures = failure_reasons(rest.get(f"{path}/exceptions", _PATIENCE_S))
        last = f": {failures[0].reason}" if failures else ""
        if REFUSAL in last:
            rest.cancel(job_id)
            raise UserError(f"{last[last.index(REFUSAL) :]}; job {job_id} is cancelled")
        if state in ENDED_STATES:
            raise JobFailedError(f"job {job_id} has ended before its first checkpoint{last}")
        if failures and failures[0].times >= _SAME_FAILURES:
            raise JobFailedError(f"job {job_id} has failed {failures[0].times} times for the same reason{last}")
        now = time.monotonic()
        if first_at is not None and now - first_at > _RECORDS_WITHIN_S and not failures and state == "RUNNING":
            return
        what = f"records of {', '.join(left)}" if left else "the first checkpoint"
        if now - began > timeout_s:
            raise JobFailedError(f"job {job_id} is not done with {what} within {timeout_s:.0f} s{last}")
        if now - told >= _TELL_EVERY_S:
            told = now
            report(f"waiting for {what} for {now - began:.0f} s, the job is {state}{last}")
        time.sleep(_LOOK_EVERY_S)


def await_end(job: SubmittedJob) -> str:
    """Wait until a job has ended, and return its state in Flink's words, such as `CANCELED`.

    Raises:
        OSError: The cluster has not answered for minutes.
    """
    rest = FlinkRest(job.address)
    while (state := str(rest.get(f"jobs/{job.id}", _PATIENCE_S)["state"])) not in ENDED_STATES:
        time.sleep(1)
    return state
