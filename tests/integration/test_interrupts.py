"""Ctrl-C at random moments: every command ends soon, with 130, without a traceback, and leaves nothing behind."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from orion_beam.cli.main import SUBCOMMANDS
from orion_beam.defaults import CELLS
from orion_beam.runners.local.processes import is_alive
from tests.integration.harness import STOP_TIMEOUT_S, await_until, kafka_in

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1_800)]

SEED = 20_261_128
MOMENTS = 20
END_TIMEOUT_S = 600.0
"""Generous: a hang lasts for ever."""
ENDLESS_S = 6.0
"""Within what time an interrupt hits a command that does not end by itself."""
INTERRUPTED = (130, -signal.SIGINT)
"""For a shell both are 130; the second is Python's own way when it has all but ended."""
USUAL = (0, 1)
"""1: something is missing, or differs."""
_LOOK_EVERY_S = 0.01

PLACE = ("--topic", "cdr.raw.FR", "--partition", "0", "--offset", "0")
OF_BROKER = {
    "audit": ("audit",),
    "capture": ("capture", "--output", "{out}"),
    "dlq export": ("dlq", "export", "--output", "{out}.jsonl"),
    "dlq ls": ("dlq", "ls"),
    "dlq redrive": ("dlq", "redrive"),
    "dlq retest": ("dlq", "retest"),
    "dlq show": ("dlq", "show", "0@0"),
    "dlq stats": ("dlq", "stats"),
    "doctor": ("doctor",),
    "forget": ("forget", "--imsi-file", "{imsi}"),
    # Into a country that no other command reads: what they do must not become longer from one to the next.
    "generate": ("generate", "--countries", "SN", "--count", "300000"),
    "monitor": ("monitor", "--listen", "127.0.0.1:0"),
    "replay": ("replay", "--countries", "FR", "--last", "1d", "--output", "{out}", "--yes"),
    "replay diff": ("replay", "diff", "--countries", "FR", "--last", "1d", "--new-cells", "{cells}"),
    "run, a stream": ("run", "--countries", "FR", "--group-id", "{name}"),
    "top": ("top", "--once"),
    "topics apply": ("topics", "apply", "--profile", "development", "--yes"),
    "topics plan": ("topics", "plan"),
    "topics verify": ("topics", "verify"),
    "trace": ("trace", *PLACE),
}
ALONE = {
    "alerts": ("alerts",),
    "config show": ("--workspace", "{workspace}", "config", "show"),
    "country check": ("country", "check", "FR"),
    "deploy": ("deploy", "{out}"),
    "format try": ("format", "try", "{files}/FR.csv"),
    "generate, files": ("generate", "--countries", "FR", "--count", "300000", "--output", "{out}"),
    "init": ("init", "{out}"),
    "lint": ("--workspace", "{workspace}", "lint"),
    "rules": ("rules",),
    "run, files": ("run", "--input", "FR={files}/FR.csv", "--output", "{out}"),
    "schema job": ("schema", "job"),
    "schema show": ("schema", "show", "cdr"),
    "workers": ("workers", "--listen", "127.0.0.1:0"),
}
COMMANDS = OF_BROKER | ALONE
ELSEWHERE = {
    "acls": "asks a broker with an authorizer once, as topics does",
    "country new": "writes some small files, as init does",
    "demo": "tests/orion_beam/cli/test_demo.py",
    "jobs": "tests/integration/test_jobs.py",
    "local": "tests/integration/test_local_up.py",
    "schema check": "reads some small files, as schema job does",
    "schema keep": "writes a small file, as init does",
    "submit": "tests/integration/test_submit.py and test_jobs.py",
    "test": "runs the same chain as run, files",
}
"""Commands, or all of a group, that are interrupted by other tests or do the same as one of the list."""
ENDLESS = {"monitor", "run, a stream", "workers"}
QUICK = {"audit": 1, "dlq stats": 3, "generate": 1, "replay": 1, "rules": 1, "run, a stream": 1, "run, files": 1}
"""Interrupts of those that stand for the others: each one's way to work is another. All have 20 in the deep tests."""


@dataclass(frozen=True)
class Scene:
    """A broker with raw records, CDRs and dead letters, and files."""

    directory: Path
    servers: str

    def command(self, name: str) -> list[str]:
        """Return a command, called as its script calls it."""
        values = {
            "out": str(self.directory / f"out-{len(list(self.directory.glob('out-*')))}"),
            "files": str(self.directory / "files"),
            "cells": str(self.directory / "cells.csv"),
            "imsi": str(self.directory / "imsi.txt"),
            "workspace": str(self.directory / "workspace"),
            "name": f"interrupted-{time.monotonic_ns()}",
        }
        arguments = [argument.format(**values) for argument in COMMANDS[name]]
        if name in OF_BROKER:
            arguments += ["--bootstrap-servers", self.servers]
        return [sys.executable, "-c", "from orion_beam.cli import start; start()", *arguments]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("interrupts")
    with kafka_in(directory / "kafka") as kafka:
        scene = Scene(directory, kafka.bootstrap_servers)
        orion_beam = [sys.executable, "-m", "orion_beam.cli.main"]
        where = ["--bootstrap-servers", kafka.bootstrap_servers]
        generate = ["generate", "--countries", "FR", "--count", "100000", "--fault-rate", "0.2"]
        replay = ["replay", "--offsets", ",".join(f"FR:{part}=0-1000" for part in range(12))]
        for arguments in (
            [*generate, *where],
            [*generate, "--output", str(directory / "files")],
            [*replay, *where, "--yes"],
            ["init", str(directory / "workspace")],
        ):
            done = subprocess.run([*orion_beam, *arguments], capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, done.stderr
        other_cells = Path(CELLS).read_bytes() + b"X-1,FR,20801,Paris,48.8,2.3\n"
        (directory / "cells.csv").write_bytes(other_cells)
        (directory / "imsi.txt").write_text("208011234567890\n")
        yield scene


class Run:
    """A command in a session of its own, as a terminal gives one to what it runs."""

    def __init__(self, scene: Scene, name: str) -> None:
        self._log = scene.directory / f"{name.replace(' ', '-')}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                scene.command(name),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                cwd=Path(__file__).parents[2],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONFAULTHANDLER": "1"},
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def await_start(self) -> None:
        """Wait until Python has begun with the command line, before which no program can do anything about Ctrl-C."""
        maps = Path(f"/proc/{self.process.pid}/maps")
        while self.process.poll() is None and "pydantic_core" not in maps.read_text():
            time.sleep(_LOOK_EVERY_S)

    def interrupt_at(self, moment_s: float) -> tuple[int, bool]:
        """Press Ctrl-C at a moment; return the exit code, and whether the command had ended by itself before."""
        try:
            self.process.wait(moment_s)
            return self.process.returncode, True
        except subprocess.TimeoutExpired:
            family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
            os.killpg(self.process.pid, signal.SIGINT)
            try:
                code = self.process.wait(END_TIMEOUT_S)
                await_until(lambda: not any(map(is_alive, family)), STOP_TIMEOUT_S, "nothing is left of the command")
            except subprocess.TimeoutExpired:
                # Python's fault handler writes where each thread stands, for the message of the test.
                self.process.send_signal(signal.SIGABRT)
                self.process.wait()
                raise
            finally:
                for one in filter(is_alive, family):
                    one.kill()
                self.process.wait()
            return code, False


def life_of(scene: Scene, name: str) -> float:
    """Return how long a command takes, if it ends by itself."""
    if name in ENDLESS:
        return ENDLESS_S
    run = Run(scene, name)
    run.await_start()
    began = time.monotonic()
    assert run.process.wait(600) in USUAL, run.log
    return time.monotonic() - began


def interrupted(scene: Scene, name: str, moments: int, lasts_s: float) -> None:
    """Interrupt a command at some moments of its life."""
    drawn = random.Random(f"{SEED} {name}")
    hits = 0
    for number in range(moments):
        moment_s = drawn.uniform(0, lasts_s)
        told = f"{name}, interrupt {number + 1} of {moments}, after {moment_s:.2f} of {lasts_s:.2f} s"
        run = Run(scene, name)
        run.await_start()
        try:
            code, is_over = run.interrupt_at(moment_s)
        except (subprocess.TimeoutExpired, AssertionError) as error:
            raise AssertionError(f"{told}: {error}\n{run.log}") from None
        # One that was ending by itself when the interrupt came may go on to do so.
        allowed = INTERRUPTED if name in ENDLESS else (*INTERRUPTED, *USUAL)
        assert code in allowed, f"{told}: exit code {code}\n{run.log}"
        assert "Traceback" not in run.log, f"{told}\n{run.log}"
        assert "Exception ignored" not in run.log, f"{told}\n{run.log}"
        hits += code in INTERRUPTED and not is_over
    print(f"{name}: {hits} of {moments} interrupts came before the end")
    assert hits or name not in ENDLESS


def test_no_command_is_left_out() -> None:
    for name, entry in SUBCOMMANDS.items():
        group = getattr(entry.load(name), "commands", {})
        for command in [f"{name} {each}" for each in group] or [name]:
            listed = any(each.split(",")[0] == command for each in COMMANDS)
            assert listed != (command in ELSEWHERE or name in ELSEWHERE), command


@pytest.mark.parametrize("name", QUICK)
def test_an_interrupt_ends_a_command(scene: Scene, name: str) -> None:
    interrupted(scene, name, QUICK[name], ENDLESS_S)


@pytest.mark.deep
@pytest.mark.parametrize("name", COMMANDS)
def test_twenty_interrupts_end_a_command(scene: Scene, name: str) -> None:
    interrupted(scene, name, MOMENTS, life_of(scene, name))
