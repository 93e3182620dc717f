"""Components that ORION Beam runs with: Python packages of the lock, and jars of the Java part, with their licences.

The lock and the list of jars say which and with what digests. A package's own metadata says its licence; that of a jar
stands in `requirements/java-licences.txt`, which `python -m scripts.licences --refresh` writes from Maven's POMs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orion_beam.runners.jars.artifacts import read_artifacts

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "requirements"
RUNTIME_LOCK = LOCKS / "runtime.lock"
JAVA = ROOT / "runners" / "java"
JAVA_LICENCES = LOCKS / "java-licences.txt"

PYPI, MAVEN = "pypi", "maven"

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_CLASSIFIER = "License :: "


@dataclass(frozen=True)
class Component:
    """A package or jar, in one version.

    Attributes:
        kind: PYPI or MAVEN.
        name: Name of the package, or GROUP:ARTIFACT of the jar.
        version: Its version.
        sha256: Digests of its files; a package has one for each platform.
        licences: Its licences; empty if they are unknown.
    """

    kind: str
    name: str
    version: str
    sha256: tuple[str, ...]
    licences: tuple[str, ...]

    def __str__(self) -> str:
        """Return name and version for people."""
        return f"{self.name} {self.version}"


def runtime_components() -> list[Component]:
    """Return what the product runs with, sorted by kind and name. Packages for tests and tools are left out."""
    return [*python_components(RUNTIME_LOCK), *java_components()]


def python_components(lock: Path) -> Iterator[Component]:
    """Yield the packages of a lock that this platform needs."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        requirement = Requirement(line.partition(" --hash")[0])
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        (pin,) = requirement.specifier
        name = canonicalize_name(requirement.name)
        yield Component(PYPI, name, pin.version, tuple(_HASH.findall(line)), licences_of_package(name))


def licences_of_package(name: str) -> tuple[str, ...]:
    """Return the licences of an installed package, by its metadata; empty if it is not installed or says none."""
    try:
        about: Any = metadata(name)  # the declared type lacks `get`
    except PackageNotFoundError:
        return ()
    if expression := about.get("License-Expression"):
        return (expression,)
    classifiers = [text.rpartition(" :: ")[2] for text in about.get_all("Classifier", []) if _CLASSIFIER in text]
    # Old metadata hold the whole text of the licence; its first line is the name.
    free = (about.get("License") or "").strip().split("\n")[0]
    return tuple(classifiers) or ((free,) if free else ())


def java_components() -> Iterator[Component]:
    """Yield the jars of the Java part; one that several parts need comes once."""
    licences = read_java_licences()
    digests: dict[str, set[str]] = {}
    for artifact in read_artifacts(JAVA):
        digests.setdefault(":".join(artifact.coordinates.split(":")[:3]), set()).add(artifact.sha256)
    for coordinates, found in sorted(digests.items()):
        name, _, version = coordinates.rpartition(":")
        yield Component(MAVEN, name, version, tuple(sorted(found)), licences.get(coordinates, ()))


def read_java_licences() -> dict[str, tuple[str, ...]]:
    """Return the licences of jars by GROUP:ARTIFACT:VERSION."""
    lines = JAVA_LICENCES.read_text(encoding="utf-8").splitlines()
    pairs = (line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    return {coordinates: tuple(text.split(" | ")) for coordinates, text in pairs}
