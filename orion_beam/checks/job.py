"""The job of a workspace over files, as its golden cases run it."""

from collections.abc import Callable

from orion_beam.config import FileSink, FileSource, JobConfig

__all__ = ["files_job"]


def files_job() -> Callable[[FileSource, FileSink], JobConfig]:
    """Return a function that makes the workspace's job over files: its countries, reference data, checks and stages."""

    def job(source: FileSource, sink: FileSink) -> JobConfig:
        countries = tuple(dict.fromkeys(code for code, _ in source.inputs))
        return JobConfig(countries=countries, source=source, sink=sink, wire_prefix=b"")

    return job
