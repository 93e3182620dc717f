"""The tutorial, block by block as it is written, with the wheel in an empty directory and no checkout at hand."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orion_beam.defaults import BROKER_PORT
from orion_beam.runners.jars.build import ensure_jars, orion_home
from tests.integration.harness import await_until
from tests.integration.pages import PATIENCE_S, ROOT, Reader, a_port, blocks

# Installing, compiling, testing and streaming one after the other: two minutes on a quiet machine.
pytestmark = [pytest.mark.integration, pytest.mark.deep, pytest.mark.timeout(2400)]

PAGE = ROOT / "docs" / "start" / "tutorial.md"
_NOT_IN_PACKAGE = (".git", ".venv", "docs", "out", "site", "tests", "benchmarks", "build", "dist", "*.egg-info")


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
    for block in blocks(PAGE):
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
