"""Build of what peers in other engines need: Java classes and jars, and a virtual environment for PyFlink.

    python -m benchmarks.peers.build [--lock]

`--lock` writes `java/artifacts.txt`, the list of jars, as Maven resolves the pom; only this option needs Maven.
Both results are kept under ORION_HOME, by the digest of what they are made from.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from orion_beam.errors import PrerequisiteError, ServiceFailedError
from orion_beam.runners.jars.artifacts import artifact_of, fetch_artifacts, read_artifacts, write_artifacts
from orion_beam.runners.jars.build import MIN_JAVA, Report, find_javac, find_maven, orion_home

JAVA = Path(__file__).with_name("java")
PYFLINK_LOCK = Path(__file__).parents[2] / "requirements" / "pyflink.lock"
_PART = "peers"


def ensure_classes(report: Report) -> Path:
    """Return the directory of the peers' classes and of their jars (`jars`), building it first when it is missing.

    Raises:
        PrerequisiteError: Java is missing or too old, or a jar cannot be fetched.
        ServiceFailedError: The classes do not compile.
    """
    sources = sorted(path for path in (JAVA / "src").rglob("*") if path.is_file())
    directory = orion_home() / "jars" / f"{_PART}-{_digest([JAVA / 'artifacts.txt', *sources])}"
    if directory.exists():
        return directory
    javac = find_javac()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="peers-", dir=directory.parent) as scratch:
        built = Path(scratch, "built")
        report("building the peers in Java")
        fetch_artifacts(read_artifacts(JAVA), orion_home() / "artifacts", {_PART: built / "jars"}, report)
        code = [str(path) for path in sources if path.suffix == ".java"]
        options = ["--release", str(MIN_JAVA), "-encoding", "UTF-8", "-proc:none", "-cp", str(built / "jars" / "*")]
        done = subprocess.run([javac, *options, "-d", str(built), *code], capture_output=True, text=True)
        if done.returncode:
            raise ServiceFailedError(f"the peers in Java do not compile:\n{done.stderr}")
        for resource in set(sources) - set(map(Path, code)):
            shutil.copy(resource, built)
        built.rename(directory)
    return directory


def ensure_pyflink(report: Report) -> Path:
    """Return the Python of an environment with PyFlink, which needs other versions than this product.

    Raises:
        PrerequisiteError: PyFlink cannot be installed.
    """
    directory = orion_home() / f"pyflink-{_digest([PYFLINK_LOCK])}"
    python = directory / "bin" / "python"
    if (directory / ".installed").exists():
        return python
    report("installing PyFlink, which takes some minutes")
    shutil.rmtree(directory, ignore_errors=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    steps = [
        [os.environ.get("PYTHON", "python3.11"), "-m", "venv", str(directory)],
        [str(python), *install, "--requirement", str(PYFLINK_LOCK)],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            raise PrerequisiteError(f"PyFlink cannot be installed: {done.stderr.strip()[-500:]}")
    (directory / ".installed").touch()
    return python


def write_artifact_list() -> None:
    """Write the list of jars, as Maven resolves the pom.

    Raises:
        PrerequisiteError: Maven is missing or too old.
        subprocess.CalledProcessError: Maven fails.
    """
    with tempfile.TemporaryDirectory(prefix="orion-lock-") as layout:
        options = ["-DincludeScope=runtime", "-Dmdep.useRepositoryLayout=true", f"-DoutputDirectory={layout}"]
        goal = "dependency:copy-dependencies"
        command = [find_maven(), "--quiet", "--batch-mode", "--file", str(JAVA / "pom.xml"), goal, *options]
        subprocess.run(command, check=True)
        write_artifacts(JAVA, [artifact_of(_PART, Path(layout), jar) for jar in Path(layout).rglob("*.jar")])


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def main() -> None:
    """Build, or write the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", action="store_true", help="write the list of jars")
    if parser.parse_args().lock:
        write_artifact_list()
        return
    print(ensure_classes(print))
    print(ensure_pyflink(print))


if __name__ == "__main__":
    main()
