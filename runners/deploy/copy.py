"""Copy of the files of a deployment, for a user without a checkout."""

import os
import shutil
from pathlib import Path

from orion_beam.errors import UserError
from orion_beam.runners.deploy import DEPLOYMENT


def deployment_files() -> list[Path]:
    """Return the files of a deployment, relative to `DEPLOYMENT`."""
    return sorted(
        path.relative_to(DEPLOYMENT)
        for folder in DEPLOYMENT.iterdir()
        if folder.is_dir() and folder.name != "__pycache__"
        for path in folder.rglob("*")
        if path.is_file()
    )


def copy_deployment(root: Path) -> list[Path]:
    """Copy the files of a deployment to a directory, which is created if it does not exist.

    Returns:
        The files that were written.

    Raises:
        UserError: A file would be overwritten, or the directory cannot be written to.
    """
    targets = {DEPLOYMENT / path: root / path for path in deployment_files()}
    for target in targets.values():
        if os.path.lexists(target):
            raise UserError(f"{target} is there already: choose another directory, or move it away")
    try:
        for source, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    return list(targets.values())
