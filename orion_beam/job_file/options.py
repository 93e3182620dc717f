"""What the job file gives to commands: values of their options, and Beam's options for a job on Flink."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orion_beam.durations import parse_duration_s

if TYPE_CHECKING:
    # The command line imports this module, and its help should be quick.
    from orion_beam.job_file.read import Job

__all__ = ["KEYS_OF_OPTIONS", "WITHOUT_JOB", "beam_options_of", "option_value"]

WITHOUT_JOB = {"ORION_WITHOUT_JOB": "1"}
"""Environment of a command that takes nothing from the job file: its Kafka and Flink are those of this machine."""


def _list(_: "Job", values: Sequence[str]) -> str:
    return ",".join(values)


def _pairs(_: "Job", settings: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


def _path(job: "Job", text: str) -> str:
    return job.path(text)


def _paths(job: "Job", texts: Sequence[str]) -> list[str]:
    return [job.path(text) for text in texts]


def _principals(_: "Job", users: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{role}={user}" for role, given in users.items() for user in given]


def _same(_: "Job", value: object) -> object:
    return value


def _url(master: str) -> str:
    return ",".join(each if "://" in each else f"http://{each}" for each in master.split(","))


_OPTIONS: Mapping[str, tuple[str, Callable[["Job", Any], object]]] = {
    "bootstrap_servers": ("brokers", _list),
    "countries": ("countries", _list),
    "profile": ("topics.profile", _same),
    "principals": ("acls", _principals),
    "publish": ("publish", _list),
    "start_from": ("start_from", _same),
    "value_format": ("value_format", _same),
    "schema_registry": ("schema_registry", _same),
    "consumer_settings": ("kafka.consumer", _pairs),
    "producer_settings": ("kafka.producer", _pairs),
    "cells": ("reference.cells", _path),
    "subscribers": ("reference.subscribers", _path),
    "reference_refresh": ("reference.refresh", _same),
    "tag_partials": ("record_checks.tag_partials", _same),
    "flag_duplicates": ("record_checks.flag_duplicates", _same),
    "duplicate_window": ("record_checks.duplicate_window", _same),
    "detect_gaps": ("record_checks.detect_gaps", _same),
    "gap_tolerance": ("record_checks.gap_tolerance", _same),
    "spread_countries": ("flink.spread_countries", _same),
    "pool_listen": ("workers.listen", _same),
    "pool_metrics": ("workers.metrics_listen", _same),
    "spares": ("workers.spares", _same),
    "worker_memory": ("workers.memory", _same),
    "drain_limit": ("workers.drain_limit", _same),
    "token_file": ("workers.token_file", _path),
    "flink": ("flink.master", lambda _, master: [_url(master)]),
    "cluster": ("flink.master", lambda _, master: _url(master)),
    "savepoint_dir": ("flink.savepoint_directory", _same),
    "metrics_port": ("metrics.port", _same),
    "listen": ("metrics.listen", _same),
    "metrics_token": ("metrics.token_file", _path),
    "disk": ("metrics.disks", _paths),
    "log_format": ("logging.format", _same),
    "quiet": ("logging.quiet", _same),
}

KEYS_OF_OPTIONS: Mapping[str, str] = {name: key for name, (key, _) in _OPTIONS.items()}
"""Key in the job file of an option, by the name of the option's parameter."""


def option_value(job: "Job", parameter: str) -> object:
    """Return the value that the file gives to an option; None if it gives none."""
    if parameter not in _OPTIONS:
        return None
    key, convert = _OPTIONS[parameter]
    value = job.value(key)
    return convert(job, value) if job.is_given(key) and value is not None else None


def beam_options_of(job: "Job", given: Collection[str]) -> list[str]:
    """Return Beam's options for a job on Flink.

    Args:
        job: The job.
        given: Names of options that the command line gives, such as `--parallelism`; these are left out.
    """
    flink = job.settings.flink
    options: dict[str, object] = {
        "flink_master": flink.master,
        "parallelism": flink.parallelism if job.is_given("flink.parallelism") else None,
        "checkpointing_interval": _milliseconds(flink.checkpointing_interval)
        if job.is_given("flink.checkpointing_interval")
        else None,
        "number_of_execution_retries": flink.restart and flink.restart.attempts,
        "execution_retry_delay": flink.restart and _milliseconds(flink.restart.delay),
        "environment_type": flink.workers and "EXTERNAL",
        "environment_config": flink.workers,
        **flink.options,
    }
    return [part for name, value in options.items() if f"--{name}" not in given for part in _arguments(name, value)]


def _milliseconds(duration: str) -> int:
    return parse_duration_s(duration) * 1_000


def _arguments(name: str, value: object) -> list[str]:
    match value:
        case None | "false":
            return []
        case "true":
            return [f"--{name}"]
        case tuple():
            return [f"--{name}={each}" for each in value]
        case _:
            return [f"--{name}={value}"]
