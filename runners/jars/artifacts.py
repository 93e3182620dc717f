"""The jars of others that the Java part is made of: exactly those of a checked-in list, from a Maven repository.

`runners/java/artifacts.txt` names each with its size and SHA-256, so nothing is looked up to find out what else is
needed, and nothing else is taken. What Maven has in its local repository is used when it is the same file.
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
"""Beside the pom: a line an artifact, `PART GROUP:ARTIFACT:VERSION[:CLASSIFIER] BYTES SHA-256`."""

_SIDE_BY_SIDE = 8
_TRIES = 5
_TIMEOUT_S = 30.0
"""How long a repository may say nothing."""
_REPORT_EVERY_S = 5.0
_CHUNK_BYTES = 1 << 18
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Artifact:
    """A jar of a Maven repository.

    Attributes:
        part: what needs it, one of the parts of the pom: job, broker, flink.
        coordinates: GROUP:ARTIFACT:VERSION, and :CLASSIFIER where it has one.
        size: in bytes.
        sha256: as hexadecimal digits.
    """

    part: str
    coordinates: str
    size: int
    sha256: str

    @property
    def path(self) -> str:
        """Where it lies in a repository, by Maven's layout."""
        group, name, version, *classifier = self.coordinates.split(":")
        return f"{group.replace('.', '/')}/{name}/{version}/{'-'.join([name, version, *classifier])}.jar"


def read_artifacts(directory: Path) -> list[Artifact]:
    """Return the list that lies beside a pom."""
    text = (directory / ARTIFACTS_FILE).read_text(encoding="utf-8")
    fields = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return [Artifact(part, coordinates, int(size), sha256) for part, coordinates, size, sha256 in fields]


def pom_digest(directory: Path) -> str:
    """Return what tells one pom from another."""
    return _sha256(directory / "pom.xml")


def write_artifacts(directory: Path, artifacts: Iterable[Artifact]) -> None:
    """Write the list beside a pom, and which pom it is of."""
    heading = f"# Written by `make lock-java`, of the pom.xml whose SHA-256 is {pom_digest(directory)}"
    lines = sorted(f"{each.part} {each.coordinates} {each.size} {each.sha256}" for each in artifacts)
    (directory / ARTIFACTS_FILE).write_text("\n".join([heading, *lines, ""]), encoding="utf-8")


def artifact_of(part: str, layout: Path, jar: Path) -> Artifact:
    """Return the artifact that a jar in a repository's layout is."""
    *group, name, version, file = jar.relative_to(layout).parts
    classifier = file.removesuffix(".jar").removeprefix(f"{name}-{version}").replace("-", ":", 1)
    return Artifact(part, f"{'.'.join(group)}:{name}:{version}{classifier}", jar.stat().st_size, _sha256(jar))


def fetch_artifacts(
    artifacts: Sequence[Artifact], store: Path, directories: Mapping[str, Path], report: Callable[[str], None]
) -> None:
    """Put artifacts into the directories of their parts, as hard links to a store where possible.

    What is in the store, or in Maven's local repository, is not fetched. What was fetched when this is stopped stays in
    the store, also parts of files: the next call goes on from there.

    Args:
        artifacts: those to have.
        store: keeps files in a repository's layout.
        directories: by part.
        report: gets a line about every 5 s, with bytes.

    Raises:
        PrerequisiteError: the repository cannot be reached, lacks an artifact, or has another one in its place.
    """
    for directory in directories.values():
        directory.mkdir(parents=True, exist_ok=True)
    repository = find_repository()
    # Parts may share some.
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
    except OSError:  # on another file system, or on one without links
        shutil.copyfile(source, target)


class _StoppedError(Exception):
    """Another file's failure, or the user, ends all downloads."""


class _Download:
    """Fetches files side by side. A part of a file is kept as `.part`."""

    def __init__(
        self, artifacts: Sequence[Artifact], store: Path, repository: Repository, report: Callable[[str], None]
    ) -> None:
        self._artifacts, self._store, self._repository, self._report = artifacts, store, repository, report
        self._session = repository.session(_SIDE_BY_SIDE)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._bytes = 0

    def run(self) -> None:
        """Fetch all.

        Raises:
            PrerequisiteError: see `fetch_artifacts`.
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
            # Its first part may be from elsewhere.
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
        """Fetch what is missing of a file, or all of it where the server does not give parts."""
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
                self._count(-counted)  # the next try counts what is there
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
    """Raise what went wrong, rather than that something else stopped a file."""
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
    """Return the innermost reason: those around it repeat addresses."""
    while (inner := getattr(error, "reason", None) or (error.args and error.args[0])) and isinstance(
        inner, BaseException
    ):
        error = inner
    return " ".join(str(error).split())[:200]


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"
