"""Lint of the stages of a workspace."""

import re
from collections.abc import Iterator
from pathlib import Path

from orion_beam.checks.lint_finding import LintFinding, LintRule, line_at
from orion_beam.custom_stages.code import load_stage
from orion_beam.errors import UserError
from orion_beam.job_file.read import Job
from orion_beam.workspace import JOB_FILE

__all__ = ["lint_stages"]

_IN_CODE = re.compile(r"^stage \S+: (?P<file>\S+\.py):(?P<line>\d+): (?P<message>.*)$")


def lint_stages(job: Job) -> Iterator[LintFinding]:
    """Import every stage that the job declares, and yield the findings in them."""
    directory, source = job.workspace.stages, job.workspace.job_file
    declared = job.settings.stages
    first: dict[str, int] = {}
    for place, each in enumerate(declared):
        line = line_at(("stages", place), job.source.lines)
        if first.setdefault(each.name, line) != line:
            message = f"two stages are named {each.name}; line {first[each.name]} has the other"
            yield LintFinding(
                source, line, LintRule.STAGE, message, "give each stage a name of its own; run names the code"
            )
        try:
            load_stage(each, directory)
        except UserError as error:
            message = " ".join(str(error).split())
            found = _IN_CODE.match(message)
            if found and Path(found["file"]).is_relative_to(directory):
                fix = "mend the code"
                yield LintFinding(Path(found["file"]), int(found["line"]), LintRule.STAGE, found["message"], fix)
            else:
                fix = f"write {directory.name}/{each.run or each.name}.py, or mend the declaration"
                yield LintFinding(source, line, LintRule.STAGE, message, fix)
    used = {each.run or each.name for each in declared}
    for path in sorted(directory.glob("*.py")):
        if path.stem not in used and not path.name.startswith(("test_", "_", "conftest")):
            fix = f"declare it under stages in {JOB_FILE}, or delete it"
            yield LintFinding(path, 1, LintRule.STAGE_UNUSED, f"no stage of {JOB_FILE} runs it", fix)
