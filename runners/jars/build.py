"""The Java part: built once, kept under ORION_HOME, found by everything that starts a JVM.

    python -m orion_beam.runners.jars.build [--uber | --lock]

builds it when it is missing and prints where it is; with `--uber`, the one jar for submission to a Flink cluster.
The jars of others are those of `java/artifacts.txt`, see `jars.artifacts`; `--lock` writes that list, as Maven
resolves the pom. Maven is needed for these two only.
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

JAVA_SOURCES = Path(__file__).parents[1] / "java"
"""The Maven project: in a checkout and in an installed package alike."""

MIN_JAVA = 17
MIN_MAVEN = (3, 6)

Report = Callable[[str], None]
"""Takes a line that says what is going on."""

_LAYOUT = b"1"
"""Changes when what is published, other than the Java sources' outcome, changes."""

PARENT_VARIABLE = "ORION_PARENT_PID"
"""Names, in its environment, the process that another one is to end with: see `flink_parts.parent_guard`."""

GUARD = "dev.orion.beam.ParentGuard"
_LAUNCHERS = {
    "flink-job-server.jar": "org.apache.beam.runners.flink.FlinkJobServerDriver",
    "expansion-service.jar": "org.apache.beam.sdk.expansion.service.ExpansionService",
}

_PARTS = {"job": "job", "broker": "kafka", "flink": "flink"}
"""The parts of the pom, and the directory that each one's jars are in."""

_OUR_JAR = "orion-beam-1.jar"

_NO_TESTS = ("-DskipTests", "-Dmaven.test.skip=true")  # neither run them nor compile them

# What Flink 1.19 and Beam reach into on Java 17, so that `java -jar` needs no flags.
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
    """Where the Java part is.

    Attributes:
        flink_job_server: For Beam's `--flink_job_server_jar`; Flink is in it.
        expansion_service: For Beam's `JavaJarExpansionService`; knows `orion:kafka_batches:v1`.
        job_classpath: Class path of the two.
        kafka_classpath: Class path of a Kafka broker, and of the guard.
        jmx_agent: Serves a JVM's metrics to Prometheus, by `-javaagent`.
        guard: Ends a JVM with its parent, see ParentGuard.
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
    """Return the directory for what is built or kept between runs: `$ORION_HOME`, or `~/.orion-beam`."""
    return Path(os.environ.get("ORION_HOME") or "~/.orion-beam").expanduser().absolute()


def guard_environment() -> dict[str, str]:
    """Return the environment that ties a JVM, or a command of `orion-beam`, to this process from its very start.

    Launcher jars end with the process that started them anyway. This closes the gap while a JVM starts up; put it into
    the environment of those that Beam starts. Commands end with nobody else unless they are told to.
    """
    return {PARENT_VARIABLE: str(os.getpid())}


def find_java() -> str:
    """Return the `java` that Beam would start, too: that of JAVA_HOME, or the first on PATH.

    Raises:
        PrerequisiteError: there is none, or it is too old.
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
    """Return the compiler beside `find_java`'s java.

    Raises:
        PrerequisiteError: there is none: it is no JDK.
    """
    java = find_java()
    javac = shutil.which(str(Path(java).with_name("javac")))
    if javac is None:
        raise PrerequisiteError(
            f"no javac beside {java}: install a JDK {MIN_JAVA} (Debian: apt install openjdk-17-jdk)"
        )
    return javac


def find_maven() -> str:
    """Return the `mvn` on PATH.

    Raises:
        PrerequisiteError: there is none, or it is too old.
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
        report: Gets a line now and then while a build is going on; nothing when there is none.

    Raises:
        PrerequisiteError: Java is missing or too old, or a jar cannot be fetched.
        ServiceFailedError: the build fails; names its log.
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


def are_built() -> bool:
    """Return whether this version of the jars has been built."""
    return _directory().exists()


def build_uber_jar(report: Report = silent) -> Path:
    """Return the one jar to submit to a Flink cluster, building it first when it is missing.

    Raises:
        PrerequisiteError: Java or Maven is missing or too old, or Maven cannot reach its registry.
        ServiceFailedError: the build fails; names its log.
    """
    jar = orion_home() / "jars" / f"orion-beam-uber-{_key()}.jar"
    with _published(jar, report) as scratch:
        if scratch is not None:
            report("building the jar for clusters")
            _maven(scratch, [*_NO_TESTS, "-Puber", "package"], report)
            (scratch / "target" / "orion-beam-uber.jar").rename(jar)
    return jar


def ensure_flink(report: Report = silent) -> str:
    """Return the class path of a Flink cluster of the version that jobs are made for; nothing of Beam is in it.

    Raises:
        PrerequisiteError: Java is missing or too old, or a jar cannot be fetched.
        ServiceFailedError: the build fails; names its log.
    """
    guard = ensure_jars(report).guard
    directory = orion_home() / "jars" / f"flink-{_key()}"
    with _published(directory, report) as scratch:
        if scratch is not None:
            report("fetching Flink")
            _fetch(["flink"], scratch, report)
            (scratch / "flink").rename(directory)
    return os.pathsep.join([str(directory / "*"), str(guard)])


def _directory() -> Path:
    return orion_home() / "jars" / _key()


def _key() -> str:
    """Return what tells one version of the Java part from another."""
    digest = hashlib.sha256(_LAYOUT)
    for path in [JAVA_SOURCES / "pom.xml", JAVA_SOURCES / ARTIFACTS_FILE, *sorted(_main_sources())]:
        digest.update(b"\0" + path.relative_to(JAVA_SOURCES).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _main_sources() -> Iterator[Path]:
    return (path for path in (JAVA_SOURCES / "src" / "main").rglob("*") if path.is_file())


@contextmanager
def _published(result: Path, report: Report) -> Iterator[Path | None]:
    """Give out a copy of the Maven project to make `result` in, or None when it is there.

    One process builds at a time. The result comes into being by a rename, so one that is there is whole.
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
    """Write the list of the jars of others that each part needs, as Maven resolves the pom, and return where it is.

    Raises:
        PrerequisiteError: Maven is missing or too old, or cannot reach its registry.
        ServiceFailedError: Maven fails; names its log.
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
    """Put the jars of others that parts need into the parts' directories."""
    wanted = [artifact for artifact in read_artifacts(JAVA_SOURCES) if artifact.part in parts]
    fetch_artifacts(wanted, orion_home() / "artifacts", {part: directory / _PARTS[part] for part in parts}, report)


def _compile(javac: str, project: Path, classes: Path, jars: Path) -> None:
    """Compile our own classes, and put their resources beside them."""
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
    """Run Maven in `project`, with its output in a log that outlives it."""
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
    """Write the jars that hold a manifest only, which Beam starts with `java -jar`.

    Their class path is relative, so that the directory can be moved.
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
    """Write the guard into a jar of its own, for the broker, which cannot share the job's jars."""
    with zipfile.ZipFile(jar, "w") as jar_file:
        path = GUARD.replace(".", "/") + ".class"
        jar_file.write(classes / path, path)


def _manifest(attributes: Mapping[str, str]) -> str:
    """Format a manifest, whose lines hold 72 bytes at most."""
    lines = ["Manifest-Version: 1.0"]
    for name, value in attributes.items():
        line = f"{name}: {value}"
        lines.append(line[:72])
        lines.extend(" " + line[start : start + 71] for start in range(72, len(line), 71))
    return "\r\n".join(lines) + "\r\n\r\n"


def _version(command: Sequence[str], pattern: str) -> tuple[int, ...]:
    """Return the version that a command says it has."""
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
