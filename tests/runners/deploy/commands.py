"""Command lines of files of a deployment, parsed by the real command line of this product."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.main import get_command

from orion_beam.cli.main import app, command_context
from orion_beam.job_file.environment import PREFIX_VARIABLE
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.workspace import WORKSPACE_VARIABLE

FLAGS = ("--kafka-config", "--workspace", "--topic-prefix")
"""Options in front of a command."""


def parsed(words: Sequence[str], workspace: Path | None) -> Any:
    """Return the context of a command line (without `orion-beam`), with the values of its options.

    Raises:
        ClickException, UserError: The command or an option does not exist, or has no such value.
    """
    with _environment({WORKSPACE_VARIABLE: str(workspace)} if workspace else {}):
        rest = list(words)
        while rest and rest[0].partition("=")[0] in FLAGS:
            del rest[: 1 if "=" in rest[0] else 2]
        return command_context(rest, get_command(app).make_context("orion-beam", ["workers"], resilient_parsing=True))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in (WORKSPACE_VARIABLE, CONFIG_VARIABLE, PREFIX_VARIABLE):
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
