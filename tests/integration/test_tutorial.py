"""The tutorial, block by block as it is written, with the wheel in an empty directory and no checkout at hand."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from orion_beam.defaults import BROKER_PORT
from orion_beam.runners.jars.build import ensure_jars, orion_home
from tests.integration.harness import await_until

# Installing, compiling, testing and streaming one after the other: two minutes on a quiet machine.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "start" / "tutorial.md"
PATIENCE_S = 600.0
_NOT_IN_PACKAGE = (".git", ".venv", "docs", "out", "site", "tests", "benchmarks", "build", "dist", "*.egg-info")


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


def blocks() -> list[Block]:
    page = PAGE.read_text(encoding="utf-8")
    found = re.finditer(r'^```\w+(?: title="([^"]*)")?\n(.*?)^```$', page, re.DOTALL | re.MULTILINE)
    return [Block(page.count("\n", 0, each.start()) + 1, each[1] or "", each[2]) for each in found]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel; return the directory that holds it."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_IN_PACKAGE))
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={directory}", str(source)]
    done = subprocess.run([sys.executable, *build], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return directory


def dependencies(directory: Path) -> Path:
    """Link the installed packages but ORION Beam itself, so that pip finds them installed and asks no index."""
    directory.mkdir()
    for site in dict.fromkeys(map(Path, [sysconfig.get_path("purelib"), *sys.path])):
        if site.name != "site-packages" or not site.is_dir():
            continue
        for path in site.iterdir():
            is_own = re.match(r"(__editable__|orion.beam|pip)", path.name, re.IGNORECASE)
            if not is_own and path.suffix != ".pth" and not (directory / path.name).exists():
                (directory / path.name).symlink_to(path)
    return directory


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


@pytest.fixture
def reader(tmp_path: Path, wheel: Path) -> Iterator[Reader]:
    ensure_jars()
    home = tmp_path / "home"
    home.mkdir()
    (home / "jars").symlink_to(orion_home() / "jars")
    left_out = ("PYTHON", "ORION", "VIRTUAL_ENV", "PYTEST", "NUMBA")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    environment |= {
        "PYTHONPATH": str(dependencies(tmp_path / "dependencies")),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheel),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "ORION_HOME": str(home),
        "COLUMNS": "160",
    }
    person = Reader(tmp_path, environment)
    try:
        yield person
    finally:
        person.interrupt()
        person.run("orion-beam local down --purge")


def test_the_tutorial_works_word_for_word(reader: Reader) -> None:
    port, began = a_port(), time.monotonic()
    outputs: dict[str, str] = {}
    for block in blocks():
        print(f"{time.monotonic() - began:.0f} s: line {block.number}")
        text = block.text
        if port != BROKER_PORT:
            text = text.replace(f"localhost:{BROKER_PORT}", f"localhost:{port}")
            text = text.replace("orion-beam local up", f"orion-beam local up --port {port}")
        if Path(block.title).suffix:
            path = reader.cwd / block.title
            assert path.parent.is_dir(), f"line {block.number}: {path.parent} should be there"
            path.write_text(text, encoding="utf-8")
        elif block.title == "second terminal":
            reader.begin(text)
        elif block.title == "repeat":
            await_until(
                lambda text=text: reader.run(text).returncode == 0,
                PATIENCE_S,
                f"line {block.number} of the page; the second terminal: {reader.log.read_text()[-3000:]}",
            )
        else:
            if "local down" in text:
                reader.interrupt()
            done = reader.run(text)
            said = f"line {block.number} of the page: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == 0, said
            assert "Traceback" not in done.stderr, said
            outputs[text.strip()] = done.stdout
    assert ", 0 failed, 0 skipped in " in outputs["orion-beam test --update\norion-beam test"]
    assert "charging" in outputs["orion-beam run --dry-run"]
    for name in ("cdr.final.avro", "cdr.dlq.avro"):
        assert (reader.cwd / "out" / name).exists()
    assert list((reader.cwd / "replayed").rglob("*.parquet"))
    passes = re.search(r"of [\d,]+ letters: ([\d,]+) pass", outputs["orion-beam dlq retest"])
    assert passes is not None
    assert passes[1] != "0"
    assert "Traceback" not in reader.log.read_text()
