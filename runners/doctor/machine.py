"""Checks of whether this machine is ready to submit a job: Java, jars, versions, disk."""

import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from orion_beam.doctor.findings import Check, failed, ok, refused, warning
from orion_beam.errors import PrerequisiteError
from orion_beam.runners.jars.build import JAVA_SOURCES, are_built, find_java, find_javac, orion_home

FREE_BYTES = 2 << 30
"""Least free disk for a job: the jars are built from 250 MB of downloads, and each submission stages them."""

_POM = "{http://maven.apache.org/POM/4.0.0}"
_DISTRIBUTION = "orion-beam"


def machine_checks() -> Iterator[Check]:
    """Check the machine that submits a job."""
    try:
        yield ok("Java", find_java())
        yield _check_jars()
    except PrerequisiteError as error:
        yield refused("Java", error)
    yield _check_versions()
    for what, directory in {"ORION_HOME": orion_home(), "temporary files": Path(tempfile.gettempdir())}.items():
        yield _check_disk(f"disk for {what}", directory)


def java_properties() -> dict[str, str]:
    """Return the properties in the pom of the Java part by name: `beam.version`, `flink.runner` and others."""
    properties = ElementTree.parse(JAVA_SOURCES / "pom.xml").getroot().find(f"{_POM}properties")
    assert properties is not None
    return {entry.tag.removeprefix(_POM): entry.text or "" for entry in properties}


def flink_version() -> str:
    """Return the major and minor version of the Flink that the Java part is made for, such as `1.19`."""
    return java_properties()["flink.runner"].rpartition("-")[2]


def pinned_versions() -> dict[str, str]:
    """Return the versions that setup.py pins, by package."""
    pins = [line.partition("==") for line in requires(_DISTRIBUTION) or () if "extra ==" not in line]
    # Cut extras off the name: `confluent-kafka[schemaregistry]`.
    return {name.partition("[")[0].strip(): pin.strip() for name, equals, pin in pins if equals}


def installed_versions(names: Mapping[str, str]) -> dict[str, str]:
    """Return the installed version of each package; `none` for a package that is not installed."""

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "none"

    return {name: installed(name) for name in names}


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Return the packages whose versions differ, as `name found, not expected`."""
    return ", ".join(f"{name} {found.get(name)}, not {pin}" for name, pin in expected.items() if found.get(name) != pin)


def _check_jars() -> Check:
    if are_built():
        return ok("jars", f"built, under {orion_home()}")
    try:
        find_javac()
    except PrerequisiteError as error:
        return refused("jars", error)
    return warning("jars", "not built: the first run does it, and takes minutes", "`make jars` does it now")


def _check_versions() -> Check:
    pins = pinned_versions()
    if wrong := differences(pins, installed_versions(pins)):
        return failed("versions", wrong, "install this version of orion-beam into an environment of its own")
    java = java_properties()["beam.version"]
    if java != pins["apache-beam"]:
        found = f"Beam is {pins['apache-beam']} in setup.py and {java} in runners/java/pom.xml"
        return failed("versions", found, "use setup.py and pom.xml of the same version of orion-beam")
    return ok("versions", f"Beam {java} in Python and Java, all {len(pins)} packages as pinned")


def _check_disk(name: str, directory: Path) -> Check:
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    found = f"{free / (1 << 30):.1f} GiB free at {directory}"
    if free < FREE_BYTES:
        return failed(name, found, f"free {FREE_BYTES >> 30} GiB, or name other directories by ORION_HOME and TMPDIR")
    return ok(name, found)
