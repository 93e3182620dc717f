"""Servers that Beam starts: awaited until they listen, stopped when they have ended, none left."""

import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from apache_beam.utils.subprocess_server import SubprocessServer

from orion_beam.runners.flink_parts import servers
from orion_beam.runners.local.broker import free_ports

_LISTENS_LATE = """
import socket, sys, time
time.sleep(0.2)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    time.sleep(600)
"""
_LISTENS_WHEN_TOLD = """
import pathlib, socket, sys, time
while not pathlib.Path({told!r}).exists():
    time.sleep(0.01)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    time.sleep(600)
"""
_IS_STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + _LISTENS_LATE


def _launch(program: str) -> servers.Server:
    (port,) = free_ports(1)
    return servers.launch([sys.executable, "-c", program, str(port)], port, [], logging.getLogger(__name__))


def _start(program: str) -> tuple[subprocess.Popen[bytes], str]:
    (port,) = free_ports(1)
    return servers._start([sys.executable, "-c", program, str(port)], port, logging.getLogger(__name__))


def test_a_server_is_given_out_when_it_listens_and_is_gone_when_it_is_no_longer_needed() -> None:
    with servers.servers():
        process, endpoint = _start(_LISTENS_LATE)
        host, _, port = endpoint.rpartition(":")
        socket.create_connection((host, int(port))).close()
        assert process.poll() is None
    assert process.poll() is not None


def test_a_server_that_was_launched_is_waited_for_only_when_it_is_needed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with servers.servers():
        late = _launch(_LISTENS_WHEN_TOLD.format(told=str(told)))
        ended = _launch("import sys; sys.exit(3)")
        assert not servers._listens(late[1])
        told.touch()
        servers.await_listening(late)
        with pytest.raises(RuntimeError, match="failed to start up with error 3"):
            servers.await_listening(ended)
    assert late[0].poll() is not None


def test_stopping_takes_no_longer_than_the_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep, slept = time.sleep, []

    def noted(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    with servers.servers():
        _start(_LISTENS_LATE)
        monkeypatch.setattr(time, "sleep", noted)
    assert max(slept, default=0) < 1  # Beam's own way: a second, whatever the server does


def test_a_server_that_ignores_the_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_END_TIMEOUT_S", 0.05)
    with servers.servers():
        process, _ = _start(_IS_STUBBORN)
    assert process.poll() == -9


def test_beam_is_told_of_a_server_that_ends_at_once() -> None:
    with servers.servers(), pytest.raises(RuntimeError, match="failed to start up with error 3"):
        _start("import sys; sys.exit(3)")


def test_beam_stops_what_it_started_and_nothing_is_stopped_twice() -> None:
    with servers.servers(), SubprocessServer.cache_subprocesses():
        (port,) = free_ports(1)
        server = SubprocessServer(None, [sys.executable, "-c", _LISTENS_LATE, str(port)], port=port)
        process, _ = server.start_process()
        server.stop()
        assert process.poll() is None, "it is shared as long as the context lasts"
    assert process.poll() is not None


def test_only_jars_of_our_making_get_an_archive_of_their_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORION_HOME", str(tmp_path))
    ours = tmp_path / "jars" / "0" / "flink-job-server.jar"
    archive = servers._archive_of([sys.executable, "-jar", str(ours), "--job-port", "1"])
    assert archive is not None
    assert (archive.parent, archive.suffix) == (ours.parent, ".jsa")
    assert archive != servers._archive_of(["/bin/sh", "-jar", str(ours)]), "another JVM reads another archive"
    assert servers._archive_of([sys.executable, "-jar", str(tmp_path / "theirs.jar")]) is None
    assert servers._archive_of([sys.executable, "-c", "pass"]) is None


def test_what_a_killed_process_left_of_its_archive_is_removed_and_that_of_another_is_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    running = tmp_path / "a.jsa.1"
    left = tmp_path / f"a.jsa.{ended.pid}"
    for path in (running, left):
        path.touch()
    servers._remove_leftovers(tmp_path / "a.jsa")
    assert (running.exists(), left.exists()) == (True, False)


def test_a_pipe_that_beam_leaves_open_fails_no_test() -> None:
    class Held(logging.Logger):
        """Keeps the thread that logs, which then is the last to know the process."""

        def info(self, *_: object, **__: object) -> None:
            may_go_on.wait()

    may_go_on, threads = threading.Event(), set(threading.enumerate())
    process, _ = SubprocessServer._really_start_process([sys.executable, "-c", "print(1)"], 1, Held("held"))
    process.wait()
    del process
    may_go_on.set()
    for thread in set(threading.enumerate()) - threads:
        thread.join()


def test_warnings_of_our_own_classes_are_warnings_and_other_lines_are_for_debugging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    own = "cdr.raw.FR is not read, and tried again"
    lines = (
        f"2026-11-29T05:38:20.020Z [orion-read cdr.raw.FR] WARN dev.orion.beam.kafka.TopicReader - {own}",
        "2026-11-29T05:38:20.020Z [main] WARN org.apache.kafka.clients.NetworkClient - Bootstrap broker disconnected",
    )
    with servers.servers():
        process, _ = _launch(f"print({lines[0]!r}); print({lines[1]!r})")
        process.wait()
        for thread in threading.enumerate():
            if thread.name == "orion-server-log":
                thread.join()
    assert caplog.record_tuples == [
        ("dev.orion.beam.kafka.TopicReader", logging.WARNING, own),
        (__name__, logging.INFO, lines[1]),
    ]
