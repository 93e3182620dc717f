"""Workspace: a user's own directory of countries, formats, stages, topics, reference data and the job.

It is found by the job file `orion.yaml`, upwards from the current directory, or named by `--workspace` or
ORION_WORKSPACE. Without a workspace, commands use what ORION Beam ships.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from orion_beam.errors import UserError

__all__ = ["JOB_FILE", "WORKSPACE_VARIABLE", "Workspace", "find_workspace", "needed_workspace"]

JOB_FILE = "orion.yaml"
WORKSPACE_VARIABLE = "ORION_WORKSPACE"


@dataclass(frozen=True)
class Workspace:
    """Paths of a workspace. Only the job file must exist.

    Attributes:
        root: Directory of the workspace.
    """

    root: Path

    @property
    def job_file(self) -> Path:
        """The job: brokers, countries, stages, reference data, record checks."""
        return self.root / JOB_FILE

    @property
    def countries(self) -> Path:
        """Country profiles, CODE.toml. They are added to the shipped ones, or replace them."""
        return self.root / "countries"

    @property
    def formats(self) -> Path:
        """Declared raw formats, NAME.toml."""
        return self.root / "formats"

    @property
    def stages(self) -> Path:
        """Stages of the user's own, NAME.py, and their tests."""
        return self.root / "stages"

    @property
    def reference(self) -> Path:
        """Reference data: cells and subscribers."""
        return self.root / "reference"

    @property
    def topics(self) -> Path:
        """The topic catalogue."""
        return self.root / "topics.yaml"

    @property
    def schemas(self) -> Path:
        """Avro schemas of other versions, RECORD-FINGERPRINT.avsc, whose records are read as well."""
        return self.root / "schemas"

    @property
    def cases(self) -> Path:
        """Golden cases of the countries."""
        return self.root / "cases"


def find_workspace(start: Path | None = None) -> Workspace | None:
    """Find the workspace that a command uses.

    Args:
        start: Directory where the search begins; by default the current one.

    Returns:
        The workspace that ORION_WORKSPACE names, otherwise that of the nearest directory with a job file among `start`
        and the directories above it; None if there is none.

    Raises:
        UserError: ORION_WORKSPACE names a directory without a job file.
    """
    if named := os.environ.get(WORKSPACE_VARIABLE):
        root = Path(named).absolute()
        if not (root / JOB_FILE).is_file():
            raise UserError(f"workspace {root}: there is no {JOB_FILE}; `orion-beam init {root}` makes a workspace")
        return Workspace(root)
    first = (start or Path.cwd()).absolute()
    # A directory, or a broken link, of this name is a mistake to tell of: without it, a job would run with defaults.
    return next((Workspace(each) for each in (first, *first.parents) if os.path.lexists(each / JOB_FILE)), None)


def needed_workspace() -> Workspace:
    """Return the workspace of a command that works on one.

    Raises:
        UserError: There is no workspace.
    """
    if (workspace := find_workspace()) is None:
        raise UserError(
            f"there is no workspace: no {JOB_FILE} here or in a directory above; `orion-beam init DIR` makes one, and"
            " --workspace DIR names one"
        )
    return workspace
