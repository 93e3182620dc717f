"""JVMs of local services, which end with this process, even when this process is killed."""

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from orion_beam.runners.jars.build import GUARD, find_java, guard_environment

_STOP_TIMEOUT_S = 30.0
_LOG_TAIL_LINES = 12


def start_jvm(
    main_class: str,
    classpath: str,
    log_file: Path,
    options: Sequence[str] = (),
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a class in a JVM of its own.

    Args:
        main_class: Class with the main method.
        classpath: Class path, with the jar of the guard.
        log_file: File to which the output is appended.
        options: Options of the JVM.
        arguments: Arguments of the class.
        environment: Variables in addition to those of this process.
    """
    main = [f"-Dorion.main.class={main_class}", GUARD]
    with log_file.open("ab") as log:
        return subprocess.Popen(
            [find_java(), *options, "-cp", classpath, *main, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | guard_environment() | dict(environment or {}),
        )


def stop_jvms(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask JVMs to end, and wait until they have; kill those for which that takes too long."""
    stopped = list(processes)
    for process in stopped:
        process.terminate()
    for process in stopped:
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            kill_jvm(process)


def kill_jvm(process: subprocess.Popen[bytes]) -> None:
    """End a JVM as a crash would."""
    process.kill()
    process.wait()


def log_tail(log_file: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log_file.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
