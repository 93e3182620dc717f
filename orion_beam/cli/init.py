"""`orion-beam init`: a new workspace."""

import json
from pathlib import Path
from typing import Annotated

import typer

from orion_beam.cli.shared.given import local_path
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import AsJson

with late_imports():
    from orion_beam.job_file.new_workspace import make_workspace
    from orion_beam.text_files.text_file import shown_path


def init(
    directory: Annotated[Path, typer.Argument(callback=local_path, help="Directory of the workspace, such as cdr.")],
    as_json: AsJson = False,
) -> None:
    """Make a workspace: the job file, and places for countries, formats, stages, topics, reference data and cases.

    Commands find the workspace from any directory in it. Nothing is overwritten.

    Example: orion-beam init cdr
    """
    root = directory.absolute()
    written = make_workspace(root)
    if as_json:
        typer.echo(json.dumps({"workspace": str(root), "files": [str(path.relative_to(root)) for path in written]}))
        return
    typer.echo(f"{shown_path(root)} is a workspace; its README.md says what is where")
    typer.echo(f"Next: cd {shown_path(root)}, then orion-beam config show")
