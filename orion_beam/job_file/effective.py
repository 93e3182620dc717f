"""The effective configuration: each value of the job, and where it comes from."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from orion_beam.job_file.model import JobFile
from orion_beam.job_file.read import Job
from orion_beam.job_file.secrets import is_reference, is_secret
from orion_beam.telemetry.masking import without_secrets
from orion_beam.text_files.text_file import KeyPath

__all__ = ["DEFAULT", "EffectiveValue", "effective_values", "masked_setting"]

DEFAULT = "default"
_MASKED = "********"
_KEYS = ("key", "token")
"""More endings of names that may hold a secret, among the options of the user's own stages."""
_PATHS = {"login", "reference.cells", "reference.subscribers", "workers.token_file", "metrics.token_file"}


class EffectiveValue(NamedTuple):
    """A value and its origin.

    Attributes:
        key: Key in the job file, such as `flink.parallelism`.
        value: The value, with secrets masked.
        source: `file:line`, an option, a variable of the environment, or `default`.
    """

    key: str
    value: Any
    source: str


def effective_values(job: Job | None, outer: Mapping[str, tuple[object, str]]) -> Iterator[EffectiveValue]:
    """Yield every value of the job.

    Args:
        job: The job; None if there is no workspace, so that all values are defaults.
        outer: Values that override the file, by key, and where each comes from.
    """
    settings = JobFile(version=1) if job is None else job.settings
    for top in JobFile.model_fields:
        if top in outer:
            yield EffectiveValue(top, *outer[top])
            continue
        for key, value in _leaves((top,), getattr(settings, top)):
            name = ".".join(map(str, key))
            if name in outer:
                yield EffectiveValue(name, *outer[name])
                continue
            source = DEFAULT if job is None or key not in job.source.lines else job.source.place(key)
            if job is not None and source != DEFAULT and name in _PATHS:
                value = job.path(value)
            if is_secret(name) and is_reference(value):
                source = f"{source}, {value}"
            yield EffectiveValue(name, masked_setting(name, value), source)


def _leaves(key: KeyPath, value: Any) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _leaves((*key, name), getattr(value, name))
    elif isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _leaves((*key, name), each)
    elif isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value):
        for place, each in enumerate(value):
            yield from _leaves((*key, place), each)
    else:
        yield key, value


def masked_setting(name: str, value: Any) -> Any:
    """Return the value of a setting without secrets: hidden by the setting's name, and within texts."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {key: masked_setting(f"{name}.{key}", each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked_setting(name, each) for each in value]
    is_key = name.startswith("stages.") and name.lower().endswith(_KEYS)
    if is_secret(name) or is_key or without_secrets(f"{name}={_MASKED}") != f"{name}={_MASKED}":
        return _MASKED
    return without_secrets(value) if isinstance(value, str) else value
