"""Start and stop of the JVMs that Beam uses, its expansion service and Flink's job server, without idle seconds.

Beam itself loses a second at the start of each JVM (gRPC waits a second before it tries a closed port again) and a
second at its end (a sleep). A JVM of this product's jars also starts from an archive of its classes (JEP 350), because
reading and verifying classes is half of its start. The first JVM of a kind writes the archive when it ends.
"""

import hashlib
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from apache_beam.utils import subprocess_server
from apache_beam.utils.subprocess_server import SubprocessServer, _SharedCache

from orion_beam.runners.jars.build import orion_home
from orion_beam.runners.local.broker import free_ports

Server = tuple[subprocess.Popen[bytes], str]
"""A JVM, and the address that it listens on."""

_OWN_WARNING = re.compile(r" WARN (?P<name>dev\.orion\.\S+) - (?P<text>.*)")
_LOOK_EVERY_S = 0.02
_SIGNALS = 5
_END_TIMEOUT_S = 1.0
_ARCHIVE_TIMEOUT_S = 60.0
"""Longest wait for a JVM that writes its archive, which takes some 5 s on an idle core."""

_TRANSLATING_JVM = ("-Xmn64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Options of the JVMs that Beam starts: they only translate pipelines, for a second or two, with little memory."""

_running: dict[Server, tuple[Path, Path] | None] = {}
"""JVMs that are not stopped yet. The value of one that writes an archive at its end: the file that it writes, and the
name that the file gets then."""


@contextmanager
def servers() -> Iterator[None]:
    """Make Beam start and stop its JVMs by the functions here; after the block, stop those that still run.

    Beam itself lets a job server run until the process ends, so a process with many jobs would have as many JVMs.
    """
    SubprocessServer._cache = _CACHE
    # Beam's module logs a traceback of the error that it raises, for each attempt.
    logging.getLogger(subprocess_server.__name__).setLevel(logging.CRITICAL)
    is_whole = True
    try:
        yield
    except Exception:
        # After a failure, the archive would lack the classes of the rest, and later jobs would start from that archive.
        is_whole = False
        raise
    finally:
        while _running:
            stop(next(reversed(_running)), is_whole)


def launch(command: Sequence[str], port: int | None, jvm_options: Sequence[str], logger: logging.Logger) -> Server:
    """Start a JVM, which runs until `stop` or the end of the `servers` block; see `await_listening`.

    Args:
        command: `java` and its arguments.
        port: Port that the JVM will listen on; None for a free one, which replaces `{{PORT}}` in the command.
        jvm_options: JVM options for this product's jars; without effect when JDK_JAVA_OPTIONS is set.
        logger: Receives the lines that the JVM prints.
    """
    archive, unfinished = _archive_of(command), None
    options = [*jvm_options] if archive and "JDK_JAVA_OPTIONS" not in os.environ else []
    if archive and archive.exists():
        options.append(f"-XX:SharedArchiveFile={archive}")
    elif archive:
        _remove_leftovers(archive)
        unfinished = archive.with_name(f"{archive.name}.{os.getpid()}")
        options.append(f"-XX:ArchiveClassesAtExit={unfinished}")
    if not port:
        (port,) = free_ports(1)
        command = [part.replace("{{PORT}}", str(port)) for part in command]
    process = subprocess.Popen([command[0], *options, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    threading.Thread(target=_log_output, args=(process, logger), name="orion-server-log", daemon=True).start()
    server = (process, f"localhost:{port}")
    _running[server] = (unfinished, archive) if archive and unfinished else None
    return server


def _log_output(process: subprocess.Popen[bytes], logger: logging.Logger) -> None:
    """Log the lines that a server prints until it ends, then close the pipe, which Beam's own thread does not.

    Warnings of this product's own classes become warnings, under the name of the class; all other lines, those of
    `logger`, are for debugging.
    """
    assert process.stdout is not None
    with process.stdout as output:
        for printed in output:
            line = printed.decode(errors="backslashreplace").rstrip()
            if own := _OWN_WARNING.search(line):
                # The text itself, so that each topic's lines are limited on their own.
                logging.getLogger(own["name"]).warning(own["text"])
            else:
                logger.info("%s", line)


def await_listening(server: Server) -> None:
    """Wait until a JVM listens.

    Raises:
        RuntimeError: The JVM has ended before that. The message holds Beam's words, `failed to start up with error`.
    """
    process, endpoint = server
    while not _listens(endpoint):
        if process.poll() is not None:
            raise RuntimeError(f"it failed to start up with error {process.returncode}")
        time.sleep(_LOOK_EVERY_S)


def _start(command: Sequence[str], port: int | None, logger: logging.Logger) -> Server:
    """Start a JVM for Beam and wait until it listens.

    Raises:
        RuntimeError: See `await_listening`.
    """
    server = launch(command, port, _TRANSLATING_JVM, logger)
    try:
        await_listening(server)
    except BaseException:
        server[0].kill()
        stop(server)
        raise
    return server


def stop(server: Server, is_whole: bool = True) -> None:
    """Stop a JVM that still runs: by SIGINT, as Beam does, and by SIGKILL when five of those do not help.

    Args:
        server: The JVM.
        is_whole: Whether the JVM has done all of its work; only then its archive of classes is kept.
    """
    process, _ = server
    leaves = _running.pop(server, None)
    for _ in range(_SIGNALS):
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ARCHIVE_TIMEOUT_S if leaves else _END_TIMEOUT_S)
    else:
        process.kill()
        process.wait()
    if leaves and leaves[0].exists():
        unfinished, archive = leaves
        # A JVM that was killed may not have finished writing.
        if is_whole and process.returncode != -signal.SIGKILL:
            unfinished.rename(archive)
        else:
            unfinished.unlink()


def _archive_of(command: Sequence[str]) -> Path | None:
    """Return the path of the archive of a command's classes; None for jars that this product has not built."""
    java = shutil.which(command[0])
    jar = next((Path(argument) for argument in command if argument.endswith(".jar")), None)
    if java is None or jar is None or orion_home() / "jars" not in jar.parents:
        return None
    # An archive fits one JVM only, so its name tells JVMs apart.
    program = Path(java).resolve()
    jvm = hashlib.sha256(f"{program} {program.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    return jar.with_name(f"{jar.stem}-{jvm}.jsa")


def _remove_leftovers(archive: Path) -> None:
    """Remove unfinished archives of processes that were killed."""
    for leftover in archive.parent.glob(f"{archive.name}.*"):
        if not Path("/proc", leftover.suffix[1:]).exists():
            leftover.unlink(missing_ok=True)


def _listens(endpoint: str) -> bool:
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except OSError:
        return False
    return True


_CACHE = _SharedCache(_start, stop)
