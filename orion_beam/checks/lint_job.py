"""Lint of the job file of a workspace: the job, and what it names."""

from collections.abc import Collection, Iterator

from orion_beam.checks.lint_finding import LintFinding, LintRule, finding_of_error, line_at
from orion_beam.countries import profile_source
from orion_beam.errors import UserError
from orion_beam.job_file.options import beam_options_of
from orion_beam.job_file.read import Job
from orion_beam.runners.flink_parts.beam_options import check_beam_options
from orion_beam.transforms.reference.reference_files import ReferenceDataError, load_cells, load_subscribers
from orion_beam.workspace import JOB_FILE

__all__ = ["lint_job"]


def lint_job(job: Job, known_countries: Collection[str]) -> Iterator[LintFinding]:
    """Yield the findings in a job file that can be read.

    Args:
        job: The job.
        known_countries: Codes of all countries, those with a broken profile included.
    """
    yield from _countries(job, known_countries)
    try:
        profile_source()
    except UserError as error:
        yield finding_of_error(job.source.path, LintRule.JOB_FILE, error, "`orion-beam rules` lists the rules")
    try:
        check_beam_options(beam_options_of(job, ()))
    except UserError as error:
        line = line_at(("flink",), job.source.lines)
        yield LintFinding(job.source.path, line, LintRule.JOB_FILE, f"flink: {error}", "mend flink.options")
    yield from _reference(job)


def _countries(job: Job, known: Collection[str]) -> Iterator[LintFinding]:
    named: dict[tuple[str | int, ...], str] = {("countries", n): code for n, code in enumerate(job.settings.countries)}
    named |= {("rules", code): code for code in job.settings.rules}
    for where, code in named.items():
        if code not in known:
            line = line_at(where, job.source.lines)
            fix = f"add countries/{code}.toml (`orion-beam country new`), or name one of {', '.join(sorted(known))}"
            message = f"{where[0]}: there is no country {code}"
            yield LintFinding(job.source.path, line, LintRule.JOB_FILE, message, fix)


def _reference(job: Job) -> Iterator[LintFinding]:
    for name, load in (("cells", load_cells), ("subscribers", load_subscribers)):
        key = f"reference.{name}"
        # Data at an address is not a file of the workspace.
        if "://" not in (text := job.value(key)):
            try:
                load(job.path(text))
            except ReferenceDataError as error:
                line = line_at(("reference", name), job.source.lines)
                fix = f"mend the file, or {key} in {JOB_FILE}"
                yield LintFinding(job.source.path, line, LintRule.REFERENCE_DATA, f"{key}: {error}", fix)
