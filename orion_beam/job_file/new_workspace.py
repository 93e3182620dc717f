"""A new workspace: its files, which are package data, its directories, and the schema of the job file for editors."""

import json
import os
from pathlib import Path

from orion_beam.defaults import SKELETON_DIRECTORY
from orion_beam.errors import UserError
from orion_beam.job_file.model import JobFile
from orion_beam.workspace import JOB_FILE, Workspace

__all__ = ["job_schema", "make_workspace"]

_SCHEMA_FILE = Path(".orion", "job.schema.json")
"""Place of the schema in a workspace. The job file names it, so that editors find it without a network."""


def job_schema() -> str:
    """Return the JSON Schema of the job file."""
    return json.dumps(JobFile.model_json_schema(), indent=2) + "\n"


def make_workspace(root: Path) -> list[Path]:
    """Make a workspace in a directory, which is created if it does not exist.

    Returns:
        The files that were written.

    Raises:
        UserError: The directory holds a workspace, or a file that would be overwritten, or cannot be written to.
    """
    workspace = Workspace(root)
    if os.path.lexists(workspace.job_file):
        raise UserError(f"{root} is a workspace already: {JOB_FILE} is there; choose another directory")
    contents = {
        root / (f".{each.name}" if each.name == "gitignore" else each.name): each.read_text(encoding="utf-8")
        for each in sorted(SKELETON_DIRECTORY.iterdir())
    }
    directories = (workspace.countries, workspace.formats, workspace.stages, workspace.reference, workspace.cases)
    contents |= {directory / ".gitkeep": "" for directory in directories}
    contents[root / _SCHEMA_FILE] = job_schema()
    for path in contents:
        if os.path.lexists(path):
            raise UserError(f"{path} is there already: choose another directory, or move it away")
    try:
        # The job file makes the directory a workspace, so it comes last.
        for path in sorted(contents, key=lambda path: path == workspace.job_file):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(contents[path], encoding="utf-8")
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    return list(contents)
