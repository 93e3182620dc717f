"""The job of a workspace over files, as its golden cases run it."""

from orion_beam.config import FileSink, FileSource, JobConfig
from orion_beam.custom_stages.code import load_stages
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.durations import parse_duration_s
from orion_beam.job_file.read import read_job
from orion_beam.workspace import Workspace

__all__ = ["files_job", "stages_in"]


def files_job(workspace: Workspace, source: FileSource, sink: FileSink) -> JobConfig:
    """Return the workspace's job with files in place of Kafka: its reference data, record checks and stages.

    Raises:
        UserError: The job file is broken, or a stage cannot run.
    """
    job = read_job(workspace)
    reference, checks = job.settings.reference, job.settings.record_checks
    return JobConfig(
        countries=tuple(dict.fromkeys(code for code, _ in source.inputs)),
        source=source,
        sink=sink,
        # A container file has the schema in its own header, so values need no header.
        wire_prefix=b"",
        cells=job.path(reference.cells),
        subscribers=job.path(reference.subscribers),
        tag_partials=checks.tag_partials,
        flag_duplicates=checks.flag_duplicates,
        duplicate_window=checks.duplicate_window,
        detect_gaps=checks.detect_gaps,
        gap_tolerance_s=parse_duration_s(checks.gap_tolerance),
        stages=stages_in(workspace),
    )


def stages_in(workspace: Workspace) -> tuple[JobStage, ...]:
    """Return the stages of the workspace's job.

    Raises:
        UserError: The job file is broken, or a stage cannot run.
    """
    return load_stages(read_job(workspace).settings.stages, workspace.stages)
