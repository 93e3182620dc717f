"""Calls of `orion-beam local` as a user types them, with an ORION_HOME of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orion_beam.runners.jars.build import ensure_jars, orion_home

_TIMEOUT_S = 600


@dataclass(frozen=True)
class Local:
    """Caller of the command.

    Attributes:
        home: ORION_HOME of the calls; it shares the jars of the real one.
    """

    home: Path

    def __call__(self, *arguments: str) -> Any:
        """Run a subcommand of `orion-beam local` with `--json` and return its parsed output."""
        command = [sys.executable, "-m", "orion_beam.cli.main", "local", *arguments, "--json"]
        environment = os.environ | {"ORION_HOME": str(self.home)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def up(self, countries: Sequence[str], *options: str) -> Any:
        """Start Kafka on a free port and create the topics of some countries."""
        return self("up", "--port", "0", "--countries", ",".join(countries), *options)


@contextmanager
def local_in(home: Path) -> Iterator[Local]:
    """Yield a caller; afterwards stop and purge the cluster that it has started."""
    ensure_jars()
    (home / "jars").symlink_to(orion_home() / "jars")
    local = Local(home)
    try:
        yield local
    finally:
        local("down", "--purge")


def limit_options(**limits: object) -> list[str]:
    """Return command line options that set limits of alerts."""
    return [f"--limit={name}={value}" for name, value in limits.items()]
