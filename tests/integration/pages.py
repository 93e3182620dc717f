"""A page of the documentation as its reader follows it: code blocks, two terminals, files."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

from orion_beam.defaults import BROKER_PORT

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600.0


class Block(NamedTuple):
    """A code block of the page: a file if its title has a suffix, otherwise commands.

    Attributes:
        number: Line of the block in the page.
        title: Title of the block; empty without one.
        text: Content.
    """

    number: int
    title: str
    text: str


def blocks(path: Path) -> list[Block]:
    """Return the blocks of a page."""
    page = path.read_text(encoding="utf-8")
    found = re.finditer(r'^```\w+(?: title="([^"]*)")?\n(.*?)^```$', page, re.DOTALL | re.MULTILINE)
    return [Block(page.count("\n", 0, each.start()) + 1, each[1] or "", each[2]) for each in found]


def a_port() -> int:
    """Return the port of the page; a free one if that is taken on this machine."""
    for port in (BROKER_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("there is no free port")


class Reader:
    """The reader of the page: a shell that keeps directory and environment from block to block.

    Attributes:
        log: Output of the second terminal.
    """

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.log = directory / "second-terminal.log"
        self._state = directory / "state"
        self._environment = environment
        self._second: subprocess.Popen[bytes] | None = None
        self._state.mkdir()
        (directory / "empty").mkdir()
        (self._state / "cwd").write_text(str(directory / "empty"))
        (self._state / "env").touch()

    @property
    def cwd(self) -> Path:
        return Path((self._state / "cwd").read_text().strip())

    def _script(self, text: str) -> list[str]:
        return [
            "bash",
            "-c",
            f". {self._state}/env\nset -e\n{text}\npwd >{self._state}/cwd\nexport -p >{self._state}/env\n",
        ]

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._script(text),
            cwd=self.cwd,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def begin(self, text: str) -> None:
        """Run commands in the second terminal, which does not see what the first has set."""
        assert self._second is None
        with self.log.open("wb") as log:
            self._second = subprocess.Popen(
                ["bash", "-ec", text],
                cwd=self.cwd,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def interrupt(self) -> None:
        """Press Ctrl-C in the second terminal."""
        if self._second is not None:
            os.killpg(self._second.pid, signal.SIGINT)
            self._second.wait(PATIENCE_S)
            self._second = None
