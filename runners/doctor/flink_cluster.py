"""Checks of whether a Flink cluster is ready for a job, by its REST API."""

from collections.abc import Iterator, Mapping
from typing import Any

from orion_beam.doctor.findings import Check, failed, ok, skipped, warning
from orion_beam.monitoring.flink_rest import FlinkRest
from orion_beam.runners.doctor.machine import flink_version

SLOTS = "slots"
_BY_DELAY = "exponential-delay"
"""Flink's own default since 1.19: it waits longer from one restart to the next, and counts none."""
_STORAGE = "checkpoint storage"
_ON_DEMAND = ("kubernetes.cluster-id", "yarn.application.id")
"""Settings of clusters that start task managers when a job asks for them."""
_BROKEN = (OSError, ValueError, KeyError, TypeError)
"""Errors that come from no answer, or from an answer that is not Flink's."""


def check_flink(master: str) -> Check:
    """Check that a cluster answers, and that its version is the one that the Java part is made for.

    Args:
        master: URL of the cluster's REST API.
    """
    try:
        found = FlinkRest(master).get("overview")["flink-version"]
    except _BROKEN as error:
        return failed("Flink", f"{master} does not answer as Flink's REST API does ({error})", "check --flink_master")
    wanted = flink_version()
    if not found.startswith(f"{wanted}."):
        return failed("Flink", f"{master} runs {found}, and this job is made for {wanted}", f"use a {wanted} cluster")
    return ok("Flink", f"{found}, asked from here")


def capacity_checks(master: str, parallelism: int, savepoints: str | None = None) -> Iterator[Check]:
    """Check slots, checkpoint storage and directory of savepoints of a cluster that answers.

    Args:
        master: URL of the cluster's REST API.
        parallelism: Parallelism of the job. All steps share slots, so the job needs that many.
        savepoints: Directory where the job's savepoints should be; None for no check.
    """
    try:
        cluster = FlinkRest(master)
        overview = cluster.get("overview")
        settings = {entry["key"]: entry["value"] for entry in cluster.get("jobmanager/config")}
        yield _check_slots(overview, settings, parallelism)
        yield _check_storage(settings, overview["taskmanagers"])
        yield check_restarts(settings)
        if savepoints is not None:
            yield _check_savepoints(settings, savepoints)
    except _BROKEN as error:
        yield skipped(SLOTS, f"{master} does not tell its slots and settings ({error})")


def _check_slots(overview: Mapping[str, Any], settings: Mapping[str, str], parallelism: int) -> Check:
    total, available, managers = (overview[name] for name in ("slots-total", "slots-available", "taskmanagers"))
    found = f"{available} of {total} slots free on {managers} task managers, {parallelism} needed"
    if available >= parallelism:
        return ok(SLOTS, found)
    if any(name in settings for name in _ON_DEMAND):
        return skipped(SLOTS, f"{found}; this cluster starts task managers on demand")
    return failed(SLOTS, found, "cancel other jobs, start task managers, or lower --parallelism")


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
