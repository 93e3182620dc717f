"""`orion-beam local` as a user types it, with an ORION_HOME of its own."""

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

_TIMEOUT_S = 400


@dataclass(frozen=True)
class Local:
    """Calls the command.

    Attributes:
        home: ORION_HOME, with the jars of the real one.
    """

    home: Path

    def __call__(self, *arguments: str) -> Any:
        """Return what it prints as JSON."""
        command = [sys.executable, "-m", "orion_beam.cli.main", "local", *arguments, "--json"]
        environment = os.environ | {"ORION_HOME": str(self.home)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def up(self, countries: Sequence[str], *options: str) -> Any:
        """Start Kafka on any port and create the topics of some countries."""
        return self("up", "--port", "0", "--countries", ",".join(countries), *options)


@contextmanager
def local_in(home: Path) -> Iterator[Local]:
    """Whatever is started is stopped and purged in the end."""
    ensure_jars()
    (home / "jars").symlink_to(orion_home() / "jars")
    local = Local(home)
    try:
        yield local
    finally:
        local("down", "--purge")


def limit_options(**limits: object) -> list[str]:
    """Return options that set limits of alerts."""
    return [f"--limit={name}={value}" for name, value in limits.items()]
