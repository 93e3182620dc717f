"""Finding Java and Maven, and building the Java part once."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from orion_beam.errors import PrerequisiteError
from orion_beam.runners.jars import build as jars
from orion_beam.runners.jars.artifacts import Artifact, write_artifacts
from orion_beam.runners.local.processes import is_alive
from tests.integration.harness import await_until


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ORION_HOME."""
    monkeypatch.setenv("ORION_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH but for the shell's own tools."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for tool in ("sh", "sleep", "mkdir", "touch", "cat"):
        os.symlink(str(shutil.which(tool)), directory / tool)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return directory


def install(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


JAVA = """echo 'openjdk version "17.0.1" 2021-10-19' >&2"""
JAVAC = """while [ "$1" != -d ]; do shift; done
mkdir -p "$2/dev/orion/beam"
touch "$2/dev/orion/beam/ParentGuard.class"
echo run >> "$ORION_HOME/runs"
sleep 0.2"""
MAVEN_VERSION = """[ "$2" = --version ] && echo 'Apache Maven 3.8.7' && exit"""


@pytest.fixture
def small_part(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Java part of two jars of others, which are there, and no sources of its own."""
    java = tmp_path / "java"
    (java / "src" / "main" / "resources").mkdir(parents=True)
    (java / "pom.xml").touch()
    artifacts = [Artifact(part, f"org.example:{part}:1", 0, hashlib.sha256().hexdigest()) for part in ("job", "broker")]
    for artifact in artifacts:
        path = home / "artifacts" / artifact.path
        path.parent.mkdir(parents=True)
        path.touch()
    write_artifacts(java, artifacts)
    monkeypatch.setattr(jars, "JAVA_SOURCES", java)


@pytest.mark.usefixtures("tools")
def test_a_missing_java_is_named_with_the_fix() -> None:
    with pytest.raises(PrerequisiteError, match="no java on PATH: install a JDK 17"):
        jars.find_java()


@pytest.mark.usefixtures("tools")
def test_a_java_home_without_java_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(PrerequisiteError, match="no java in JAVA_HOME=/nowhere"):
        jars.find_java()


@pytest.mark.parametrize(("version", "shown"), [("1.8.0_292", "8"), ("11.0.20", "11")])
def test_an_old_java_is_refused(tools: Path, version: str, shown: str) -> None:
    install(tools, "java", f"""echo 'openjdk version "{version}"' >&2""")
    with pytest.raises(PrerequisiteError, match=f"is Java {shown}, ORION Beam needs 17"):
        jars.find_java()


@pytest.mark.parametrize("version", ["17.0.15", "21", "25-ea"])
def test_java_17_and_newer_are_taken(tools: Path, version: str) -> None:
    install(tools, "java", f"""echo 'openjdk version "{version}" 2025-04-15' >&2""")
    assert jars.find_java() == str(tools / "java")


@pytest.mark.usefixtures("home")
def test_a_java_without_a_compiler_is_refused_before_anything_is_fetched(tools: Path, home: Path) -> None:
    install(tools, "java", JAVA)
    with pytest.raises(PrerequisiteError, match=f"no javac beside {tools}/java: install a JDK 17"):
        jars.ensure_jars()
    assert not (home / "artifacts").exists()


@pytest.mark.usefixtures("home")
def test_a_missing_maven_is_named_with_the_fix(tools: Path) -> None:
    install(tools, "java", JAVA)
    with pytest.raises(PrerequisiteError, match="no mvn on PATH: install Maven"):
        jars.lock()


def test_an_old_maven_is_refused(tools: Path) -> None:
    install(tools, "mvn", "echo 'Apache Maven 3.3.9'")
    with pytest.raises(PrerequisiteError, match=r"is Maven 3\.3"):
        jars.find_maven()


@pytest.mark.usefixtures("home")
def test_an_unreachable_registry_is_told_from_a_broken_build(tools: Path) -> None:
    install(tools, "java", JAVA)
    error = "[ERROR] Failed to execute goal: Could not transfer artifact a:b:jar:1: Unknown host registry"
    install(tools, "mvn", f"{MAVEN_VERSION}\necho '{error}'\nexit 1")
    with pytest.raises(PrerequisiteError, match="Maven cannot get what it needs from its registry") as caught:
        jars.lock()
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("small_part")
def test_a_broken_build_names_its_log_and_publishes_nothing(tools: Path, home: Path) -> None:
    install(tools, "java", JAVA)
    install(tools, "javac", "echo 'A.java:1: error: class, interface, enum, or record expected' >&2\nexit 1")
    with pytest.raises(RuntimeError, match="A.java:1: error: class") as caught:
        jars.ensure_jars()
    assert str(home / "jars" / "build.log") in str(caught.value)
    assert [path.name for path in (home / "jars").iterdir() if path.is_dir()] == []


@pytest.mark.usefixtures("small_part")
def test_an_interrupted_build_is_not_taken_for_a_finished_one(tools: Path, home: Path) -> None:
    install(tools, "java", JAVA)
    install(tools, "javac", JAVAC)
    leftover = home / "jars" / "build-interrupted" / "target"
    leftover.mkdir(parents=True)
    built = jars.ensure_jars()
    assert built.flink_job_server.is_file()
    assert not leftover.exists()


@pytest.mark.usefixtures("small_part")
def test_processes_that_build_at_the_same_time_build_once(tools: Path, home: Path) -> None:
    install(tools, "java", JAVA)
    install(tools, "javac", JAVAC)
    lines: list[str] = []
    threads = [threading.Thread(target=jars.ensure_jars, args=(lines.append,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (home / "runs").read_text().count("run") == 1
    assert sum(line.startswith("building") for line in lines) == 1


@pytest.mark.usefixtures("small_part")
def test_launchers_find_their_jars_wherever_the_directory_is(tools: Path) -> None:
    install(tools, "java", JAVA)
    install(tools, "javac", JAVAC)
    with zipfile.ZipFile(jars.ensure_jars().expansion_service) as jar_file:
        text = jar_file.read("META-INF/MANIFEST.MF").decode()
    assert max(map(len, text.split("\r\n"))) <= 72
    manifest = dict(line.split(": ", 1) for line in text.replace("\r\n ", "").strip().split("\r\n"))
    assert manifest["Main-Class"] == "dev.orion.beam.ParentGuard"
    assert manifest["Orion-Main-Class"] == "org.apache.beam.sdk.expansion.service.ExpansionService"
    assert manifest["Class-Path"] == "job/job-1.jar job/orion-beam-1.jar"
    assert "java.base/java.lang" in manifest["Add-Opens"].split(" ")


def test_changed_sources_are_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "java"
    shutil.copytree(jars.JAVA_SOURCES, copy, ignore=shutil.ignore_patterns("target"))
    before = jars._key()
    monkeypatch.setattr(jars, "JAVA_SOURCES", copy)
    assert jars._key() == before
    with (copy / "pom.xml").open("a") as pom:
        pom.write("\n")
    assert jars._key() != before


@pytest.mark.integration
def test_a_jvm_does_not_outlive_a_killed_parent() -> None:
    built = jars.ensure_jars()
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys\n"
            "child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)\n"
            "for line in child.stdout:\n"
            "    if 'Starting expansion service' in line:\n"
            "        print(child.pid, flush=True)\n",
            *[jars.find_java(), "-jar", str(built.expansion_service), "0"],
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await_until(lambda: not is_alive(child), 600, "the JVM has ended")


@pytest.mark.integration
def test_a_jvm_whose_named_parent_is_gone_ends_at_once() -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    ended = subprocess.run(
        [jars.find_java(), "-jar", str(jars.ensure_jars().expansion_service), "0"],
        env=os.environ | {"ORION_PARENT_PID": str(gone.pid)},
        timeout=600,
        check=False,
    )
    assert ended.returncode == 143
