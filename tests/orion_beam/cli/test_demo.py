"""`orion-beam demo`, called as a user calls it: it balances, and nothing is left of it however it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from orion_beam.countries import all_profiles
from orion_beam.job_file.environment import PREFIX_VARIABLE
from orion_beam.kafka.admin import topic_names
from orion_beam.runners.local.processes import is_alive
from tests.integration.harness import await_until

COMMAND = [sys.executable, "-m", "orion_beam.cli.main", "demo"]


class Demo:
    """A demo that runs in a process group of its own, as a shell would start it, and what it starts."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.started: set[psutil.Process] = set()
        self.ports: set[int] = set()
        self._out, self._err = directory / "out", directory / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=os.environ | {"TMPDIR": str(directory)},
                process_group=0,
            )
        self._watch = threading.Thread(target=self._follow, daemon=True)
        self._watch.start()

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def commands(self) -> list[str]:
        """Return the command lines of what it has started and is running."""
        lines = []
        for process in list(self.started):
            with suppress(psutil.Error):
                lines.append(" ".join(process.cmdline()))
        return lines

    def wait_for(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + 600
        while not condition():
            assert self.process.poll() is None, self.err
            assert time.monotonic() < give_up, self.err
            time.sleep(0.05)

    def interrupt(self) -> None:
        """Do what Ctrl-C in a terminal does: the whole foreground group gets it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        """Wait until it has ended; return its exit code."""
        code = self.process.wait(600)
        self._watch.join()
        return code

    def assert_nothing_is_left(self) -> None:
        assert self.started
        await_until(lambda: not self._running(), 600, "all processes have ended")
        assert self.ports
        for port in self.ports:
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port))

    def _running(self) -> list[psutil.Process]:
        running = [process for process in self.started if is_alive(process)]
        print(*running, sep="\n")
        return running

    def remaining_files(self) -> list[str]:
        return sorted(path.name for path in self.directory.glob("orion-beam-demo-*/*"))

    def kill(self) -> None:
        for process in [self.process, *self.started]:
            with suppress(psutil.Error):
                process.kill()
        self.process.wait()

    def _follow(self) -> None:
        while self.process.poll() is None:
            with suppress(psutil.Error):
                self.started.update(psutil.Process(self.process.pid).children(recursive=True))
            for process in list(self.started):
                with suppress(psutil.Error):
                    connections = process.net_connections("tcp")
                    self.ports |= {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
            time.sleep(0.2)


@pytest.fixture
def demo(tmp_path):
    demos = []

    def start(*arguments: str) -> Demo:
        demos.append(Demo(tmp_path, *arguments))
        return demos[-1]

    yield start
    for one in demos:
        one.kill()


@pytest.mark.integration
def test_it_balances_and_leaves_nothing(demo):
    run = demo("--count", "20000", "--json")
    assert run.end() == 0, run.err
    summary = json.loads(run.out)
    assert summary["balanced"]
    assert summary["guarantee"] == "exactly once"
    assert summary["records"] == 20_000 == summary["final"] + summary["dead_letters"]
    assert (summary["missing"], summary["in_both"], summary["duplicates"], summary["problems"]) == (0, 0, 0, [])
    assert set(summary["countries"]) == {"FR", "MA", "SN", "TN"}
    for counts in summary["countries"].values():
        assert counts["records"] == 5_000 == counts["final"] + counts["dead_letters"]
        assert counts["dead_letters"] == counts["faulty"] == sum(counts["codes"].values()) > 0
    # No number of a subscriber, on any stream: an IMSI or MSISDN has ten digits at least.
    assert not re.search(r"\d{10}", run.out + run.err)
    run.assert_nothing_is_left()
    assert run.remaining_files() == []


@pytest.mark.integration
@pytest.mark.parametrize("moment", ["kafka.Kafka", "expansion-service.jar"])
def test_ctrl_c_ends_all_it_started(demo, moment):
    run = demo("--count", "20000")
    run.wait_for(lambda: any(moment in line for line in run.commands()) and bool(run.ports))
    run.interrupt()
    assert run.end() == 130, run.err
    assert "Traceback" not in run.err
    run.assert_nothing_is_left()
    assert run.remaining_files() == []


@pytest.mark.integration
def test_kept_kafka_stays_up_until_ctrl_c_with_the_environment_s_topics_and_group(demo, monkeypatch):
    monkeypatch.setenv(PREFIX_VARIABLE, "staging.")
    run = demo("--count", "400", "--countries", "FR", "--keep")
    run.wait_for(lambda: "stays up at" in run.out)
    (servers,) = re.findall(r"stays up at (\S+),", run.out)
    assert {name for name in topic_names(servers) if not name.startswith(("staging.", "__"))} == set()
    (log,) = run.directory.glob("orion-beam-demo-*/run.log")
    assert "reading staging.cdr.raw.FR as group staging.orion-beam, writing staging.cdr.final" in log.read_text()
    assert "-t staging.cdr.dlq " in run.out
    assert "Conservation holds" in run.out
    assert "••••" in run.out
    assert not re.search(r"\d{10}", run.out + run.err)
    assert sum("java" in line for line in run.commands()) == 1
    run.interrupt()
    assert run.end() == 0, run.err
    run.assert_nothing_is_left()
    assert run.remaining_files() == []


@pytest.mark.integration
def test_a_job_that_dies_is_a_failure_that_names_its_log(demo):
    run = demo("--count", "400", "--countries", "FR")
    job = " -m orion_beam.cli.main run "
    run.wait_for(lambda: "flink-job-server" in " ".join(run.commands()))
    for process in list(run.started):
        with suppress(psutil.Error):
            if job in " ".join(process.cmdline()):
                process.kill()
    assert run.end() == 1
    assert "orion-beam: error: `orion-beam run` ended with exit code -9. Its log, " in run.err
    assert run.remaining_files() == ["generate.log", "generate.out", "kafka", "run.log", "run.out"]
    run.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count must be at least 1, not 0"),
        (["--fault-rate", "2"], "--fault-rate must be from 0 to 1, not 2.0"),
        (["--countries", "FR,XX"], f"--countries: unknown country 'XX': known are {', '.join(all_profiles())}"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(orion_beam, arguments, message):
    answer = orion_beam("demo", *arguments)
    assert (answer.code, answer.out, answer.err) == (2, "", f"orion-beam: error: {message}\n")


@pytest.mark.parametrize(("tools", "message"), [([], "no java on PATH"), (["java"], "no javac beside")])
def test_a_missing_prerequisite_is_named_before_anything_starts(orion_beam, monkeypatch, tmp_path, tools, message):
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in tools:
        (programs / tool).write_text("#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n")
        (programs / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("ORION_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    answer = orion_beam("demo")
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith(f"orion-beam: error: {message}")
    assert not list(tmp_path.glob("orion-beam-demo-*"))


def test_help_has_an_example(orion_beam):
    assert "Example: orion-beam demo --countries FR,SN" in orion_beam("demo", "--help").out
