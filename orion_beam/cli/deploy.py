"""`orion-beam deploy`: the files of a deployment, to be made one's own."""

import json
from pathlib import Path
from typing import Annotated

import typer

from orion_beam.cli.shared.given import local_path
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.options import AsJson

with late_imports():
    from orion_beam.runners.deploy.copy import copy_deployment
    from orion_beam.text_files.text_file import shown_path


def deploy(
    directory: Annotated[Path, typer.Argument(callback=local_path, help="Directory to write to, such as deploy.")],
    as_json: AsJson = False,
) -> None:
    """Write the files of a deployment: images and compose, Kubernetes, systemd units. They are yours to change.

    Nothing is overwritten, and nothing is started.

    Example: orion-beam deploy deploy
    """
    root = directory.absolute()
    written = copy_deployment(root)
    if as_json:
        typer.echo(json.dumps({"directory": str(root), "files": [str(path.relative_to(root)) for path in written]}))
        return
    typer.echo(f"{shown_path(root)} holds docker, kubernetes and systemd; docs/deploy says how to use them")
