"""Checks of whether a Flink cluster is ready for a job, by its REST API."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orion_beam.doctor.findings import Check, failed, ok, skipped, warning
from orion_beam.monitoring.flink_rest import NO_LEADER_FIX, FlinkRefusedError, FlinkRest
from orion_beam.runners.doctor.machine import flink_version

SLOTS = "slots"
_BY_DELAY = "exponential-delay"
"""Flink's own default since 1.19: it waits longer from one restart to the next, and counts none."""
_STORAGE = "checkpoint storage"
_METASPACE = "metaspace"
_OWN_METASPACE_MB, _JOB_METASPACE_MB = 40, 55
"""Metaspace of a TaskManager without jobs, and what the classes of each job take: Beam, Kafka's client and ours."""
_LOOK_EVERY_S = 0.2
_ON_DEMAND = ("kubernetes.cluster-id", "yarn.application.id")
"""Settings of clusters that start task managers when a job asks for them."""
_BROKEN = (OSError, ValueError, KeyError, TypeError)
"""Errors that come from no answer, or from an answer that is not Flink's."""


def check_flink(master: str, wait_s: float = 0.0) -> Check:
    """Check that a cluster answers, and that its version is the one that the Java part is made for.

    Args:
        master: URL of the cluster's REST API.
        wait_s: Longest wait for an answer, see `FlinkRest.get`.
    """
    try:
        found = FlinkRest(master).get("overview", wait_s)["flink-version"]
    except _BROKEN as error:
        is_leaderless = isinstance(error, FlinkRefusedError) and error.passes
        fix = NO_LEADER_FIX if is_leaderless else "check --flink_master"
        return failed("Flink", f"{master} does not answer as Flink's REST API does ({error})", fix)
    wanted = flink_version()
    if not found.startswith(f"{wanted}."):
        return failed("Flink", f"{master} runs {found}, and this job is made for {wanted}", f"use a {wanted} cluster")
    return ok("Flink", f"{found}, asked from here")


def capacity_checks(
    master: str, parallelism: int, savepoints: str | None = None, *, wait_s: float = 0.0
) -> Iterator[Check]:
    """Check slots, metaspace, checkpoint storage, availability and directory of savepoints of a cluster that answers.

    Args:
        master: URL of the cluster's REST API.
        parallelism: Parallelism of the job. All steps share slots, so the job needs that many.
        savepoints: Directory where the job's savepoints should be; None for no check.
        wait_s: Longest wait for an answer, and for a first TaskManager: a new leader has none for a moment.
    """
    try:
        cluster = FlinkRest(master)
        settings = {entry["key"]: entry["value"] for entry in cluster.get("jobmanager/config", wait_s)}
        overview = _await_task_managers(cluster, settings, wait_s)
        yield _check_slots(overview, settings, parallelism)
        yield check_metaspace(cluster.get("taskmanagers", wait_s)["taskmanagers"])
        yield _check_storage(settings, overview["taskmanagers"])
        yield check_availability(settings)
        yield check_restarts(settings)
        if savepoints is not None:
            yield _check_savepoints(settings, savepoints)
    except _BROKEN as error:
        yield skipped(SLOTS, f"{master} does not tell its slots and settings ({error})")


def _await_task_managers(cluster: FlinkRest, settings: Mapping[str, str], wait_s: float) -> Mapping[str, Any]:
    """Return the overview of a cluster when a TaskManager has registered, or when the time is up."""
    give_up = time.monotonic() + wait_s
    while True:
        overview: Mapping[str, Any] = cluster.get("overview", wait_s)
        if overview["taskmanagers"] or _starts_on_demand(settings) or time.monotonic() >= give_up:
            return overview
        time.sleep(_LOOK_EVERY_S)


def _starts_on_demand(settings: Mapping[str, str]) -> bool:
    return any(name in settings for name in _ON_DEMAND)


def _check_slots(overview: Mapping[str, Any], settings: Mapping[str, str], parallelism: int) -> Check:
    total, available, managers = (overview[name] for name in ("slots-total", "slots-available", "taskmanagers"))
    found = f"{available} of {total} slots free on {managers} task managers, {parallelism} needed"
    if available >= parallelism:
        return ok(SLOTS, found)
    if _starts_on_demand(settings):
        return skipped(SLOTS, f"{found}; this cluster starts task managers on demand")
    return failed(SLOTS, found, "cancel other jobs, start task managers, or lower --parallelism")


def check_metaspace(task_managers: Sequence[Mapping[str, Any]]) -> Check:
    """Check that each TaskManager's metaspace has room for the classes of a job in each of its slots.

    Classes of a job that has ended stay for a while, so there must be room for one job more.
    """
    if not task_managers:
        return skipped(_METASPACE, "no task manager yet")
    for manager in task_managers:
        slots, most = manager["slotsNumber"], manager["memoryConfiguration"]["jvmMetaspace"] >> 20
        needed = _OWN_METASPACE_MB + _JOB_METASPACE_MB * (slots + 1)
        if most < needed:
            return warning(
                _METASPACE,
                f"{most} MiB on a task manager of {slots} slots: with a job in each slot it runs out and the task"
                " manager ends",
                f"set taskmanager.memory.jvm-metaspace.size to {needed}m, and taskmanager.memory.process.size to as"
                " much more",
            )
    return ok(_METASPACE, f"{_JOB_METASPACE_MB} MiB for each job")


def _check_storage(settings: Mapping[str, str], task_managers: int) -> Check:
    directory = settings.get("state.checkpoints.dir", "")
    if not directory:
        return warning(
            _STORAGE,
            "in the job manager's memory: a new job manager begins at the consumer group's offsets",
            "set state.checkpoints.dir to a directory that all hosts share",
        )
    if directory.startswith(("file:", "/")) and task_managers > 1:
        return warning(
            _STORAGE,
            f"{directory}, with {task_managers} task managers: each writes to its own disk, unless they share this one",
            "make sure that this path is the same directory on all hosts, or use HDFS or S3",
        )
    return ok(_STORAGE, directory)


def check_availability(settings: Mapping[str, str]) -> Check:
    """Check that jobs outlive their JobManager, by the cluster's settings."""
    # Flink 1.19 takes the older name, too, and ZooKeeper and Kubernetes by the class of their services.
    kind = settings.get("high-availability.type", settings.get("high-availability", "NONE"))
    if kind.upper() == "NONE":
        return warning(
            "high availability",
            "none: when the JobManager ends, its jobs end, and nobody starts them again",
            "set high-availability.type and high-availability.storageDir: docs/operate/high-availability.md",
        )
    storage = settings.get("high-availability.storageDir", "")
    return ok("high availability", f"{kind}, {storage}" if storage else kind)


def check_restarts(settings: Mapping[str, str]) -> Check:
    """Check that the cluster does not count the restarts in a job's life, by its settings."""
    strategy = settings.get("restart-strategy.type", settings.get("restart-strategy", _BY_DELAY))
    most = settings.get(f"restart-strategy.{_BY_DELAY}.attempts-before-reset-backoff", "infinite")
    if strategy in (_BY_DELAY, "exponentialdelay"):
        return ok("restarts", "for ever" if most == "infinite" else f"{most} times until the job runs well for a while")
    return warning(
        "restarts",
        f"restart-strategy.type is {strategy}: a job ends after a number of lost TaskManagers",
        f"set restart-strategy.type to {_BY_DELAY}",
    )


def _check_savepoints(settings: Mapping[str, str], wanted: str) -> Check:
    directory = settings.get("state.savepoints.dir", "")
    if directory.rstrip("/") == wanted.rstrip("/"):
        return ok("savepoints", directory)
    return warning(
        "savepoints",
        f"the cluster writes them to {directory or 'no directory of its own'}, and the job file says {wanted}",
        f"set state.savepoints.dir to {wanted}, or mend flink.savepoint_directory",
    )
