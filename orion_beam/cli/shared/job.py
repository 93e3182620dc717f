"""What a command takes from the job file besides options: Beam's options, and stages of the user's own."""

import typer

from orion_beam.cli.shared.job_defaults import job_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.errors import UserError

with late_imports():
    from orion_beam.custom_stages.code import load_stages
    from orion_beam.custom_stages.declaration import JobStage
    from orion_beam.job_file.options import beam_options_of
    from orion_beam.runners.flink_parts.beam_options import check_beam_options


def beam_arguments(context: typer.Context) -> list[str]:
    """Return Beam's options of a job on Flink: those of the job file, and those behind `--`, which override them.

    Raises:
        UserError: Beam refuses an option of the job file. The message names file and line.
    """
    if (job := job_of(context)) is None:
        return context.args
    own = beam_options_of(job, {argument.partition("=")[0] for argument in context.args})
    try:
        check_beam_options(own)
    except UserError as error:
        raise job.source.error(("flink",), str(error)) from None
    return [*own, *context.args]


def stages_of(context: typer.Context) -> tuple[JobStage, ...]:
    """Return the user's own stages of the job.

    Raises:
        UserError: A stage cannot run.
    """
    job = job_of(context)
    return () if job is None else load_stages(job.settings.stages, job.workspace.stages)
