"""The JVMs that Beam starts, its expansion service and Flink's job server: awaited and stopped without idle seconds.

Beam's own way costs a second at the start of each, for gRPC tries again a second after a port was found closed, and one
at its end, which is slept through. A JVM of ours is started from an archive of its classes as well (JEP 350), which the
first one of its kind leaves behind: half of what it takes to start is reading and checking classes.
"""

import hashlib
import logging
import os
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

_LOOK_EVERY_S = 0.02
_SIGNALS = 5
_END_TIMEOUT_S = 1.0
_ARCHIVE_TIMEOUT_S = 60.0
"""For a JVM that writes its archive: some 5 s on an idle core."""

_TRANSLATING_JVM = ("-Xmn64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Of those that Beam starts: they translate, for a second or two, and new memory is slow to come."""

_running: dict[Server, tuple[Path, Path] | None] = {}
"""Those not stopped yet; with one that leaves an archive, what it writes at its end, and where that belongs then."""


@contextmanager
def servers() -> Iterator[None]:
    """Have Beam start and stop its JVMs by the functions here; on leaving, stop those that are still there.

    Beam itself lets a job server run until the process ends: a replay of many jobs would have as many JVMs.
    """
    SubprocessServer._cache = _CACHE
    # It logs a traceback of what it raises, for each attempt.
    logging.getLogger(subprocess_server.__name__).setLevel(logging.CRITICAL)
    is_whole = True
    try:
        yield
    except Exception:
        # An archive of what was needed up to a failure would be all that later jobs start from.
        is_whole = False
        raise
    finally:
        while _running:
            stop(next(reversed(_running)), is_whole)


def launch(command: Sequence[str], port: int | None, jvm_options: Sequence[str], logger: logging.Logger) -> Server:
    """Start a JVM, which runs until `servers` is left, if nobody stops it before; see `await_listening`.

    Args:
        command: `java` and its arguments.
        port: what it will listen on; None: any, put in the place of `{{PORT}}`.
        jvm_options: for jars of our making, unless JDK_JAVA_OPTIONS says otherwise.
        logger: gets what it prints.
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
    """Log what a server prints, until it ends. Beam's own thread leaves the pipe open."""
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            logger.info("%s", line.decode(errors="backslashreplace").rstrip())


def await_listening(server: Server) -> None:
    """Wait until a JVM listens.

    Raises:
        RuntimeError: it has ended before that, as Beam says it: `failed to start up with error`.
    """
    process, endpoint = server
    while not _listens(endpoint):
        if process.poll() is not None:
            raise RuntimeError(f"it failed to start up with error {process.returncode}")
        time.sleep(_LOOK_EVERY_S)


def _start(command: Sequence[str], port: int | None, logger: logging.Logger) -> Server:
    """Start a JVM for Beam and wait until it listens.

    Raises:
        RuntimeError: it has ended before that, as Beam says it: `failed to start up with error`.
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
    """Stop a JVM: by SIGINT, as Beam does, and by SIGKILL when that does not help. One that has ended is left alone.

    Its archive is kept if all that it was to do `is_whole`.
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
        # Whoever was killed may have been writing.
        if is_whole and process.returncode != -signal.SIGKILL:
            unfinished.rename(archive)
        else:
            unfinished.unlink()


def _archive_of(command: Sequence[str]) -> Path | None:
    """Return where the archive of a command's classes is, or belongs; None for jars that are not of our making."""
    java = shutil.which(command[0])
    jar = next((Path(argument) for argument in command if argument.endswith(".jar")), None)
    if java is None or jar is None or orion_home() / "jars" not in jar.parents:
        return None
    # Another JVM would not read it.
    program = Path(java).resolve()
    jvm = hashlib.sha256(f"{program} {program.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    return jar.with_name(f"{jar.stem}-{jvm}.jsa")


def _remove_leftovers(archive: Path) -> None:
    """Remove what processes that were killed have left of their archives."""
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
