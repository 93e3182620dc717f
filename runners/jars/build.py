"""Build of the Java part, which is built once and kept under ORION_HOME for everything that starts a JVM.

    python -m orion_beam.runners.jars.build [--uber | --lock]

builds the jars when they are missing and prints their paths. `--uber` builds the one jar for submission to a Flink
cluster. `--lock` writes `java/artifacts.txt`, the list of third-party jars (see `jars.artifacts`), as Maven resolves
the pom. Only this option needs Maven.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from orion_beam.errors import PrerequisiteError, ServiceFailedError
from orion_beam.runners.jars.artifacts import (
    ARTIFACTS_FILE,
    artifact_of,
    fetch_artifacts,
    read_artifacts,
    write_artifacts,
)
from orion_beam.runners.jars.merge import merge_jars, needed_on_cluster

JAVA_SOURCES = Path(__file__).parents[1] / "java"
"""Directory of the Maven project, in a checkout and in an installed package alike."""

MIN_JAVA = 17
MIN_MAVEN = (3, 6)

Report = Callable[[str], None]
"""Receives a line of text about the progress of a build."""

_LAYOUT = b"1"
"""Version of the layout of a build. Raise it when a build's result changes without a change of sources or jars."""

PARENT_VARIABLE = "ORION_PARENT_PID"
"""Environment variable with the id of a process; a process that has it ends when that one does. See
`flink_parts.parent_guard`."""

GUARD = "dev.orion.beam.ParentGuard"
PIPELINE_RUNNER = "dev.orion.beam.JobMain"
"""Class whose `main` runs, on a cluster, the pipeline that its jar holds."""
_LAUNCHERS = {
    "flink-job-server.jar": "org.apache.beam.runners.flink.FlinkJobServerDriver",
    "expansion-service.jar": "org.apache.beam.sdk.expansion.service.ExpansionService",
}

_PARTS = {"job": "job", "broker": "kafka", "flink": "flink", "zookeeper": "zookeeper", "s3": "s3"}
"""Directory of the jars of each part of the pom."""

_FETCHED = {"flink": "Flink", "zookeeper": "ZooKeeper", "s3": "Flink's plugin for S3"}
"""Name of each part that only tests and clusters of processes need; these are fetched when they are first needed."""

_OUR_JAR = "orion-beam-1.jar"

# Packages of the JDK that Flink 1.19 and Beam access by reflection on Java 17. The manifests name them, so that
# `java -jar` needs no flags.
ADD_EXPORTS = ("java.base/sun.net.util", "java.rmi/sun.rmi.registry")
ADD_OPENS = (
    "java.base/java.lang",
    "java.base/java.net",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/sun.nio.ch",
    "java.base/java.lang.reflect",
    "java.base/java.text",
    "java.base/java.time",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.util.concurrent.locks",
)

_UNREACHABLE = re.compile(
    r"Could not transfer artifact|Unknown host|Connection refused|Network is unreachable|offline mode"
    r"|connect timed out|Connect to .* failed|Temporary failure in name resolution"
)


@dataclass(frozen=True)
class Jars:
    """Paths of the built Java part.

    Attributes:
        flink_job_server: Jar for Beam's `--flink_job_server_jar`; includes Flink.
        expansion_service: Jar for Beam's `JavaJarExpansionService`; knows `orion:kafka_batches:v1`.
        job_classpath: Class path of these two.
        kafka_classpath: Class path of a Kafka broker with the guard.
        jmx_agent: Jar for `-javaagent`, which serves a JVM's metrics to Prometheus.
        guard: Jar of ParentGuard, which ends a JVM with its parent.
    """

    flink_job_server: Path
    expansion_service: Path
    job_classpath: str
    kafka_classpath: str
    jmx_agent: Path
    guard: Path

    @classmethod
    def within(cls, directory: Path) -> "Jars":
        """Return the jars of a finished build in `directory`."""
        return cls(
            flink_job_server=directory / "flink-job-server.jar",
            expansion_service=directory / "expansion-service.jar",
            job_classpath=str(directory / "job" / "*"),
            kafka_classpath=os.pathsep.join([str(directory / "kafka" / "*"), str(directory / "guard.jar")]),
            jmx_agent=next((directory / "kafka").glob("jmx_prometheus_javaagent-*.jar"), directory / "missing.jar"),
            guard=directory / "guard.jar",
        )


def silent(_line: str) -> None:
    """Report nothing."""


def orion_home() -> Path:
    """Return the directory of builds and of data kept between runs: `$ORION_HOME`, or `~/.orion-beam`."""
    return Path(os.environ.get("ORION_HOME") or "~/.orion-beam").expanduser().absolute()


def guard_environment() -> dict[str, str]:
    """Return the environment variables that make a JVM, or a command of `orion-beam`, end with this process.

    The launcher jars end with their parent anyway; with these variables, they do so even when the parent ends while
    the JVM starts. Put the variables into the environment of JVMs that Beam starts. A command of `orion-beam` ends with
    its parent only if it has these variables.
    """
    return {PARENT_VARIABLE: str(os.getpid())}


def find_java() -> str:
    """Return the path of the `java` of JAVA_HOME, or of the first on PATH. Beam starts the same one.

    Raises:
        PrerequisiteError: There is no `java`, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home, "bin", "java")) if home else "java")
    if java is None:
        where = f"in JAVA_HOME={home}" if home else "on PATH"
        raise PrerequisiteError(f"no java {where}: install a JDK {MIN_JAVA} (Debian: apt install openjdk-17-jdk)")
    version = _version([java, "-version"], r'version "(?:1\.)?(\d+)')
    if version < (MIN_JAVA,):
        raise PrerequisiteError(
            f"{java} is Java {'.'.join(map(str, version))}, ORION Beam needs {MIN_JAVA} or newer:"
            f" install a JDK {MIN_JAVA} and set JAVA_HOME"
        )
    return java


def find_javac() -> str:
    """Return the path of the compiler beside the `java` of `find_java`.

    Raises:
        PrerequisiteError: There is no compiler, since this Java is no JDK.
    """
    java = find_java()
    javac = shutil.which(str(Path(java).with_name("javac")))
    if javac is None:
        raise PrerequisiteError(
            f"no javac beside {java}: install a JDK {MIN_JAVA} (Debian: apt install openjdk-17-jdk)"
        )
    return javac


def find_maven() -> str:
    """Return the path of the `mvn` on PATH.

    Raises:
        PrerequisiteError: There is no `mvn`, or it is too old.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise PrerequisiteError("no mvn on PATH: install Maven 3.6 or newer (Debian: apt install maven)")
    version = _version([maven, "--batch-mode", "--version"], r"Apache Maven (\d+)\.(\d+)")
    if version < MIN_MAVEN:
        raise PrerequisiteError(f"{maven} is Maven {'.'.join(map(str, version))}: install Maven 3.6 or newer")
    return maven


def ensure_jars(report: Report = silent) -> Jars:
    """Return the jars, building them first when this version of them has not been built yet.

    Args:
        report: Receives progress lines of a build.

    Raises:
        PrerequisiteError: Java is missing or too old, or a jar cannot be fetched.
        ServiceFailedError: The build fails. The message names its log.
    """
    directory = _directory()
    with _published(directory, report) as scratch:
        if scratch is not None:
            report("building the Java part")
            javac = find_javac()
            target, classes = scratch / "target", scratch / "classes"
            _fetch(["job", "broker"], target, report)
            _compile(javac, scratch, classes, target / "job")
            _write_jar(target / "job" / _OUR_JAR, classes)
            _write_launchers(target)
            _write_guard(target / "guard.jar", classes)
            target.rename(directory)
    return Jars.within(directory)


def planned_jars() -> Jars:
    """Return the jars of this version, which need not be built yet."""
    return Jars.within(_directory())


def are_built() -> bool:
    """Return whether this version of the jars has been built."""
    return _directory().exists()


def build_uber_jar(report: Report = silent) -> Path:
    """Return the path of the one jar to submit to a Flink cluster, building it first when it is missing.

    It holds Beam, Kafka IO and this product's classes, but no pipeline and nothing of Flink: see `cluster.job_jar`.

    Raises:
        PrerequisiteError, ServiceFailedError: As `ensure_jars`.
    """
    directory = ensure_jars(report).guard.parent
    jar = directory.with_name(f"orion-beam-cluster-{directory.name}.jar")
    with _published(jar, report) as scratch:
        if scratch is not None:
            report("building the jar for clusters")
            merged = scratch / jar.name
            merge_jars(
                needed_on_cluster((directory / "job").glob("*.jar")),
                merged,
                _manifest({"Main-Class": PIPELINE_RUNNER, "Created-By": "orion-beam"}),
            )
            merged.rename(jar)
    return jar


def ensure_flink(report: Report = silent) -> str:
    """Return the class path of a local Flink cluster, fetching its jars first. It holds the guard and nothing of Beam.

    Raises:
        PrerequisiteError: Java is missing or too old, or a jar cannot be fetched.
        ServiceFailedError: The build of the guard fails. The message names its log.
    """
    return _class_path("flink", report)


def ensure_zookeeper(report: Report = silent) -> str:
    """Return the class path of a ZooKeeper server with the guard, fetching its jars first.

    Raises:
        PrerequisiteError: Java is missing or too old, or a jar cannot be fetched.
        ServiceFailedError: The build of the guard fails. The message names its log.
    """
    return _class_path("zookeeper", report)


def ensure_s3_plugin(report: Report = silent) -> Path:
    """Return the directory that holds the jar of Flink's plugin for S3, fetching the jar first.

    Raises:
        PrerequisiteError: Java is missing or too old, or the jar cannot be fetched.
    """
    return _fetched("s3", report)


def _class_path(part: str, report: Report) -> str:
    guard = ensure_jars(report).guard
    return os.pathsep.join([str(_fetched(part, report) / "*"), str(guard)])


def _fetched(part: str, report: Report) -> Path:
    """Return the directory with the jars of a part that is not needed by every job."""
    directory = orion_home() / "jars" / f"{part}-{_key()}"
    with _published(directory, report) as scratch:
        if scratch is not None:
            report(f"fetching {_FETCHED[part]}")
            _fetch([part], scratch, report)
            (scratch / _PARTS[part]).rename(directory)
    return directory


def _directory() -> Path:
    return orion_home() / "jars" / _key()


def _key() -> str:
    """Return a digest of the Java part's sources and of its list of jars; each version is built into its own place."""
    digest = hashlib.sha256(_LAYOUT)
    for path in [JAVA_SOURCES / "pom.xml", JAVA_SOURCES / ARTIFACTS_FILE, *sorted(_main_sources())]:
        digest.update(b"\0" + path.relative_to(JAVA_SOURCES).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _main_sources() -> Iterator[Path]:
    return (path for path in (JAVA_SOURCES / "src" / "main").rglob("*") if path.is_file())


@contextmanager
def _published(result: Path, report: Report) -> Iterator[Path | None]:
    """Yield a copy of the Maven project in which the caller builds `result`, or None when `result` exists.

    One process builds at a time. The caller renames its finished build to `result`, so a result that exists is whole.
    """
    if result.exists():
        yield None
        return
    find_java()
    result.parent.mkdir(parents=True, exist_ok=True)
    with (result.parent / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another process that is building the Java part")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if result.exists():
            yield None
            return
        for interrupted in result.parent.glob("build-*"):
            shutil.rmtree(interrupted, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=result.parent) as scratch:
            project = Path(scratch)
            shutil.copy(JAVA_SOURCES / "pom.xml", project)
            shutil.copytree(JAVA_SOURCES / "src" / "main", project / "src" / "main")
            yield project


def lock(report: Report = silent) -> Path:
    """Write the list of third-party jars that each part needs, as Maven resolves the pom, and return its path.

    Raises:
        PrerequisiteError: Maven is missing or too old, or cannot reach its repository.
        ServiceFailedError: Maven fails. The message names its log.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="orion-lock-") as scratch:
        project = Path(scratch, "project")
        project.mkdir()
        shutil.copy(JAVA_SOURCES / "pom.xml", project)
        for part in _PARTS:
            layout = Path(scratch, part)
            options = [f"-D{part}.directory={layout}", "-Dmdep.useRepositoryLayout=true"]
            which = [] if part == "job" else [f"-Dpart={part}"]
            _maven(project, [*which, *options, "dependency:copy-dependencies"], report)
            found += [artifact_of(part, layout, jar) for jar in layout.rglob("*.jar")]
    write_artifacts(JAVA_SOURCES, found)
    return JAVA_SOURCES / ARTIFACTS_FILE


def _fetch(parts: Sequence[str], directory: Path, report: Report) -> None:
    """Put the third-party jars of parts into the parts' directories."""
    wanted = [artifact for artifact in read_artifacts(JAVA_SOURCES) if artifact.part in parts]
    fetch_artifacts(wanted, orion_home() / "artifacts", {part: directory / _PARTS[part] for part in parts}, report)


def _compile(javac: str, project: Path, classes: Path, jars: Path) -> None:
    """Compile this product's classes, and copy the resources beside them."""
    sources = sorted(map(str, (project / "src" / "main" / "java").rglob("*.java")))
    options = ["--release", str(MIN_JAVA), "-encoding", "UTF-8", "-proc:none", "-cp", str(jars / "*")]
    done = subprocess.run(
        [javac, *options, "-d", str(classes), *sources],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        log = project.parent / "build.log"
        log.write_text(done.stdout + done.stderr)
        first = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
        raise ServiceFailedError(f"the Java part does not build: {first[:300]} (log: {log})")
    shutil.copytree(project / "src" / "main" / "resources", classes, dirs_exist_ok=True)


def _maven(project: Path, arguments: Sequence[str], report: Report) -> None:
    """Run Maven in `project`; its output goes to `build.log` beside the project, which is temporary."""
    command = [find_maven(), "--batch-mode", *arguments]
    log = project.parent / "build.log"
    downloads = 0
    lines: list[str] = []
    with (
        log.open("w") as out,
        subprocess.Popen(
            command, cwd=project, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            out.write(line)
            if "Downloaded from" in line:
                downloads += 1
                if downloads % 50 == 0:
                    report(f"{downloads} files downloaded")
            else:
                lines.append(line)
    if process.returncode:
        errors = [line.removeprefix("[ERROR]").strip() for line in lines if line.startswith("[ERROR]")]
        first = errors[0] if errors else f"exit code {process.returncode}"
        if any(map(_UNREACHABLE.search, errors)):
            raise PrerequisiteError(
                "Maven cannot get what it needs from its registry: connect this machine, or name a mirror in"
                f" ~/.m2/settings.xml (log: {log}; {first[:300]})"
            )
        raise ServiceFailedError(f"the Java part does not build: {first[:300]} (log: {log})")


def _write_launchers(directory: Path) -> None:
    """Write the jars that Beam starts with `java -jar`: each holds only a manifest.

    The class path in the manifest is relative, so that the directory can be moved.
    """
    for name, main_class in _LAUNCHERS.items():
        attributes = {
            "Main-Class": GUARD,
            "Orion-Main-Class": main_class,
            "Add-Exports": " ".join(ADD_EXPORTS),
            "Add-Opens": " ".join(ADD_OPENS),
            "Class-Path": " ".join(f"job/{jar.name}" for jar in sorted((directory / "job").glob("*.jar"))),
        }
        with zipfile.ZipFile(directory / name, "w") as jar_file:
            jar_file.writestr("META-INF/MANIFEST.MF", _manifest(attributes))


def _write_jar(jar: Path, classes: Path) -> None:
    """Write classes and resources into a jar."""
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_DEFLATED) as jar_file:
        for path in sorted(path for path in classes.rglob("*") if path.is_file()):
            jar_file.write(path, path.relative_to(classes).as_posix())


def _write_guard(jar: Path, classes: Path) -> None:
    """Write the guard into a jar of its own, for brokers, whose class path cannot include the job's jars."""
    with zipfile.ZipFile(jar, "w") as jar_file:
        path = GUARD.replace(".", "/") + ".class"
        jar_file.write(classes / path, path)


def _manifest(attributes: Mapping[str, str]) -> str:
    """Format a manifest, with lines of at most 72 bytes, as the jar file specification demands."""
    lines = ["Manifest-Version: 1.0"]
    for name, value in attributes.items():
        line = f"{name}: {value}"
        lines.append(line[:72])
        lines.extend(" " + line[start : start + 71] for start in range(72, len(line), 71))
    return "\r\n".join(lines) + "\r\n\r\n"


def _version(command: Sequence[str], pattern: str) -> tuple[int, ...]:
    """Run a command and return the version in its output."""
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    found = re.search(pattern, answer.stdout + answer.stderr)
    if found is None:
        raise PrerequisiteError(f"`{' '.join(command)}` does not tell its version: reinstall it")
    return tuple(map(int, found.groups()))


def main() -> int:
    """Build what is missing and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m orion_beam.runners.jars.build", description=main.__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--uber", action="store_true", help="the one jar for submission to a Flink cluster")
    what.add_argument("--lock", action="store_true", help="write the list of jars, after a change to the pom")
    arguments = parser.parse_args()

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        if arguments.uber or arguments.lock:
            print(build_uber_jar(report) if arguments.uber else lock(report))
            return 0
        jars = ensure_jars(report)
    except (PrerequisiteError, ServiceFailedError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, PrerequisiteError) else 1
    for field in fields(jars):
        print(f"{field.name}: {getattr(jars, field.name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
