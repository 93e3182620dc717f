"""Jars of submitted jobs, which this host keeps: a rollback and a change of the parallelism start them again."""

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from orion_beam.errors import UserError
from orion_beam.runners.jars.build import orion_home

__all__ = ["keep_jar", "kept_jar"]

_KEPT = 3
"""Jars of one job name: the present version, the one before, and a version that is being tried."""


def _directory(name: str) -> Path:
    return orion_home() / "submitted" / name


def keep_jar(jar: Path, name: str) -> str:
    """Keep a jar for its job, in place of the oldest one; return its SHA-256 in hex.

    Only its owner may read it: it holds the job's options and stages.

    Args:
        jar: The jar.
        name: Name of the job.

    Raises:
        UserError: It cannot be written.
    """
    with jar.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    directory = _directory(name)
    kept = directory / f"{digest}.jar"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if kept.exists():
            os.utime(kept)
        else:
            _copy(jar, kept)
        newest = sorted(directory.glob("*.jar"), key=lambda each: each.stat().st_mtime_ns, reverse=True)
        for old in newest[_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{kept} cannot be written, and without it no rollback is possible: {error.strerror}") from None
    return digest


def _copy(jar: Path, kept: Path) -> None:
    handle, part = tempfile.mkstemp(prefix=".", dir=kept.parent)
    try:
        with os.fdopen(handle, "wb") as copy, jar.open("rb") as source:
            shutil.copyfileobj(source, copy)
        Path(part).replace(kept)
    finally:
        with suppress(FileNotFoundError):
            Path(part).unlink()


def kept_jar(name: str, digest: str | None) -> Path | None:
    """Return the kept jar of a job by its SHA-256; None if this host has it no more, or never had it."""
    if digest is None:
        return None
    kept = _directory(name) / f"{digest}.jar"
    return kept if kept.exists() else None
