"""What a command takes from the job file of the workspace: defaults of its options, Beam's options, and stages.

Imports of what reads the file stand within functions, because help should be quick.
"""

import os
import re
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orion_beam.errors import UserError
from orion_beam.job_file.options import KEYS_OF_OPTIONS, WITHOUT_JOB, beam_options_of, option_value

if TYPE_CHECKING:
    from orion_beam.custom_stages.declaration import JobStage
    from orion_beam.job_file.read import Job

_GIVES_WAY = {"--input": {"bootstrap_servers", "dlq_topic"}, "--offsets": {"countries"}}
"""Options that stand in place of others: where one is given, the job file gives no value to those others."""

_HELP = {"-h", "--help"}


class JobDefaults:
    """Defaults of a command's options, as a `default_map`. The job file is read when the first one is needed."""

    def __init__(self, arguments: Sequence[str], taken: Collection[str] | None) -> None:
        """Take the command's arguments, and the parameters that take their values from the file; None: all."""
        own = arguments[: arguments.index("--")] if "--" in arguments else arguments
        given = {argument.partition("=")[0] for argument in own}
        self._taken = taken
        self._left_out = {name for option in given & _GIVES_WAY.keys() for name in _GIVES_WAY[option]}
        # Help shows the options' own defaults, and should be quick.
        self._is_help = bool(given & _HELP)

    @cached_property
    def job(self) -> "Job | None":
        """The job of the workspace; None without a workspace."""
        from orion_beam.job_file.read import find_job

        return None if WITHOUT_JOB.items() <= os.environ.items() else find_job()

    def get(self, parameter: str) -> object:
        """Return the value of an option by the name of its parameter; None: the file gives none."""
        is_taken = parameter in KEYS_OF_OPTIONS and (self._taken is None or parameter in self._taken)
        if self._is_help or not is_taken or parameter in self._left_out or self.job is None:
            return None
        return option_value(self.job, parameter)


def job_of(context: Any) -> "Job | None":
    """Return the job of the workspace; None without a workspace, and for a command that takes nothing from it."""
    defaults = context.default_map
    return defaults.job if isinstance(defaults, JobDefaults) else None


def use_job_login(context: Any) -> None:
    """Use the login of the job file, if a command asks Kafka. Other commands work where the secrets are not known.

    Raises:
        UserError: The login cannot be read. The message names file, line and key.
    """
    is_dry_run = context.command.name == "run" and context.params["dry_run"]
    if context.params.get("bootstrap_servers") and not is_dry_run and (job := job_of(context)) is not None:
        job.use_login()


def with_origin(error: UserError, context: Any) -> UserError:
    """Add to an error that names an option the line of the job file that gives this option its value."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name)
        if source is None or source.name != "DEFAULT_MAP" or (job := job_of(context)) is None:
            continue
        if any(re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", str(error)) for option in parameter.opts):
            where = tuple(KEYS_OF_OPTIONS[parameter.name].split("."))
            error.args = (str(job.source.error(where, str(error).removeprefix(f"{parameter.opts[0]}: "))),)
            break
    return error


def beam_arguments(context: Any) -> list[str]:
    """Return Beam's options of a job on Flink: those of the job file, and those behind `--`, which override them.

    Raises:
        UserError: Beam refuses an option of the job file. The message names file and line.
    """
    from orion_beam.runners.flink_parts.beam_options import check_beam_options

    if (job := job_of(context)) is None:
        return list(context.args)
    own = beam_options_of(job, {argument.partition("=")[0] for argument in context.args})
    try:
        check_beam_options(own)
    except UserError as error:
        raise job.source.error(("flink",), str(error)) from None
    return [*own, *context.args]


def stages_of(context: Any) -> "tuple[JobStage, ...]":
    """Return the user's own stages of the job.

    Raises:
        UserError: A stage cannot run.
    """
    job = job_of(context)
    if job is None or not job.settings.stages:
        return ()
    from orion_beam.custom_stages.code import load_stages

    return load_stages(job.settings.stages, job.workspace.stages)
