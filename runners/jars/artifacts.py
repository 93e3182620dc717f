"""Download of the third-party jars of the Java part from a Maven repository.

`runners/java/artifacts.txt` lists each jar with its size and SHA-256. No dependencies are resolved, and only files with
these digests are accepted. A file in Maven's local repository is used when its digest is right.
"""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import requests

from orion_beam.errors import PrerequisiteError
from orion_beam.runners.jars.maven_settings import Repository, find_repository

ARTIFACTS_FILE = "artifacts.txt"
"""File beside the pom, one artifact a line: `PART GROUP:ARTIFACT:VERSION[:CLASSIFIER] BYTES SHA-256`."""

_SIDE_BY_SIDE = 8
_TRIES = 5
_TIMEOUT_S = 30.0
"""Longest wait for the next bytes of a repository."""
_REPORT_EVERY_S = 5.0
_CHUNK_BYTES = 1 << 18
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Artifact:
    """A jar of a Maven repository.

    Attributes:
        part: The part of the pom that needs the jar, such as job or broker.
        coordinates: GROUP:ARTIFACT:VERSION, and :CLASSIFIER for a jar that has one.
        size: Size in bytes.
        sha256: SHA-256 in hexadecimal digits.
    """

    part: str
    coordinates: str
    size: int
    sha256: str

    @property
    def path(self) -> str:
        """Path within a repository, by Maven's layout."""
        group, name, version, *classifier = self.coordinates.split(":")
        return f"{group.replace('.', '/')}/{name}/{version}/{'-'.join([name, version, *classifier])}.jar"


def read_artifacts(directory: Path) -> list[Artifact]:
    """Read the list of artifacts beside a pom."""
    text = (directory / ARTIFACTS_FILE).read_text(encoding="utf-8")
    fields = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return [Artifact(part, coordinates, int(size), sha256) for part, coordinates, size, sha256 in fields]


def pom_digest(directory: Path) -> str:
    """Return the SHA-256 of the pom in a directory."""
    return _sha256(directory / "pom.xml")


def write_artifacts(directory: Path, artifacts: Iterable[Artifact]) -> None:
    """Write the list of artifacts beside a pom, with the pom's digest in its first line."""
    heading = f"# Written by `make lock-java`, of the pom.xml whose SHA-256 is {pom_digest(directory)}"
    lines = sorted(f"{each.part} {each.coordinates} {each.size} {each.sha256}" for each in artifacts)
    (directory / ARTIFACTS_FILE).write_text("\n".join([heading, *lines, ""]), encoding="utf-8")


def artifact_of(part: str, layout: Path, jar: Path) -> Artifact:
    """Describe a jar, whose path below `layout` follows Maven's repository layout, as an artifact."""
    *group, name, version, file = jar.relative_to(layout).parts
    classifier = file.removesuffix(".jar").removeprefix(f"{name}-{version}").replace("-", ":", 1)
    return Artifact(part, f"{'.'.join(group)}:{name}:{version}{classifier}", jar.stat().st_size, _sha256(jar))


def fetch_artifacts(
    artifacts: Sequence[Artifact], store: Path, directories: Mapping[str, Path], report: Callable[[str], None]
) -> None:
    """Put artifacts into the directories of their parts, as hard links to a store where possible.

    Artifacts in the store or in Maven's local repository are not fetched. When a call is interrupted, whole and partial
    files stay in the store, and the next call continues with them.

    Args:
        artifacts: The artifacts to provide.
        store: Directory that keeps the files, in Maven's repository layout.
        directories: Target directory by part.
        report: Receives a progress line, with megabytes, about every 5 s.

    Raises:
        PrerequisiteError: The repository cannot be reached, lacks an artifact, or has another file in its place.
    """
    for directory in directories.values():
        directory.mkdir(parents=True, exist_ok=True)
    repository = find_repository()
    # Parts may share artifacts.
    by_path = {artifact.path: artifact for artifact in artifacts}
    missing = [artifact for artifact in by_path.values() if not _is_there(artifact, store, repository.local)]
    if missing:
        _Download(missing, store, repository, report).run()
    for artifact in artifacts:
        _link(store / artifact.path, directories[artifact.part] / Path(artifact.path).name)


def _is_there(artifact: Artifact, store: Path, local: Path) -> bool:
    kept, maven = store / artifact.path, local / artifact.path
    if _is_same(kept, artifact):
        return True
    if not _is_same(maven, artifact):
        return False
    kept.parent.mkdir(parents=True, exist_ok=True)
    _link(maven, kept)
    return True


def _is_same(path: Path, artifact: Artifact) -> bool:
    try:
        return path.stat().st_size == artifact.size and _sha256(path) == artifact.sha256
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # the file systems differ, or have no hard links
        shutil.copyfile(source, target)


class _StoppedError(Exception):
    """End of a download because another file failed or the user interrupted."""


class _Download:
    """Parallel download of files. An unfinished file is kept as `.part`."""

    def __init__(
        self, artifacts: Sequence[Artifact], store: Path, repository: Repository, report: Callable[[str], None]
    ) -> None:
        self._artifacts, self._store, self._repository, self._report = artifacts, store, repository, report
        self._session = repository.session(_SIDE_BY_SIDE)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._bytes = 0

    def run(self) -> None:
        """Fetch all files.

        Raises:
            PrerequisiteError: See `fetch_artifacts`.
        """
        files, size = len(self._artifacts), sum(artifact.size for artifact in self._artifacts)
        self._report(f"fetching {files} files, {_mb(size)} MB, from {self._repository.name}")
        began = time.monotonic()
        with self._session, ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            try:
                left = {pool.submit(self._fetch, artifact) for artifact in self._artifacts}
                while left:
                    done, left = wait(left, _REPORT_EVERY_S, FIRST_EXCEPTION)
                    _raise_first(done)
                    if left:
                        self._report(f"{_mb(self._bytes)} of {_mb(size)} MB, {files - len(left)} of {files} files")
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        self._report(f"{files} files, {_mb(size)} MB, fetched in {time.monotonic() - began:.0f} s")

    def _fetch(self, artifact: Artifact) -> None:
        path = self._store / artifact.path
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        was_begun = part.exists()
        self._complete(artifact, part)
        if was_begun and _sha256(part) != artifact.sha256:
            # The part that was there before may be of another file: fetch the whole file again.
            self._count(-artifact.size)
            part.unlink()
            self._complete(artifact, part)
        if (found := _sha256(part)) != artifact.sha256:
            part.unlink()
            raise PrerequisiteError(
                f"{artifact.coordinates}: what {self._repository.name} has is not what was tested, and is not used:"
                f" its SHA-256 is {found}, expected {artifact.sha256}"
            )
        part.replace(path)

    def _complete(self, artifact: Artifact, part: Path) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                self._go_on(artifact, part)
                return
            except requests.RequestException as error:
                if attempt == _TRIES or not _is_transient(error):
                    raise PrerequisiteError(self._problem(artifact, error)) from None
                if self._stop.wait(2**attempt / 2):
                    raise _StoppedError from None

    def _go_on(self, artifact: Artifact, part: Path) -> None:
        """Fetch the missing rest of a file, or the whole file when the server does not support ranges."""
        have = part.stat().st_size if part.exists() else 0
        if have > artifact.size:
            part.unlink()
            have = 0
        if have == artifact.size:
            self._count(have)
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        url = f"{self._repository.url}/{artifact.path}"
        proxies = dict(self._repository.proxies)
        with self._session.get(url, headers=headers, proxies=proxies, stream=True, timeout=_TIMEOUT_S) as answer:
            answer.raise_for_status()
            if answer.status_code != requests.codes.partial_content:
                have = 0
            counted = have
            self._count(have)
            try:
                with part.open("ab" if have else "wb") as file:
                    for chunk in answer.iter_content(_CHUNK_BYTES):
                        if self._stop.is_set():
                            raise _StoppedError
                        file.write(chunk)
                        counted += len(chunk)
                        self._count(len(chunk))
            except requests.RequestException:
                self._count(-counted)  # the next attempt counts the bytes on disk again
                raise

    def _count(self, more: int) -> None:
        with self._lock:
            self._bytes += more

    def _problem(self, artifact: Artifact, error: requests.RequestException) -> str:
        where = self._repository.name
        if error.response is not None:
            status = f"{error.response.status_code} {error.response.reason}"
            return (
                f"{artifact.coordinates} cannot be had from {where}: it answers {status}; name a mirror that has it in"
                " ~/.m2/settings.xml, or a repository in ORION_MAVEN_REPOSITORY"
            )
        fix = "name a mirror or a proxy in ~/.m2/settings.xml"
        if isinstance(error, requests.exceptions.SSLError):
            fix = "name the file of your certificate authorities in REQUESTS_CA_BUNDLE"
        return (
            f"{where} cannot be reached for {artifact.coordinates}: connect this machine, or {fix} ({_reason(error)})"
        )


def _raise_first(done: Iterable[Future[None]]) -> None:
    """Raise the first error of finished downloads; prefer the cause to a `_StoppedError`, which is its consequence."""
    errors = [error for future in done if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, _StoppedError)):
        raise error


def _is_transient(error: requests.RequestException) -> bool:
    if error.response is not None:
        return error.response.status_code in _TRANSIENT
    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.InvalidURL):
        return False
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def _reason(error: BaseException) -> str:
    """Return the text of the innermost exception; the ones around it only repeat addresses."""
    while (inner := getattr(error, "reason", None) or (error.args and error.args[0])) and isinstance(
        inner, BaseException
    ):
        error = inner
    return " ".join(str(error).split())[:200]


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"
