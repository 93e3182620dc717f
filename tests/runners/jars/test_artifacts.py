"""Fetching the jars of others: exactly those of the list, from a repository that may answer badly."""

import hashlib
import re
import threading
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orion_beam.errors import PrerequisiteError
from orion_beam.runners.jars.artifacts import Artifact, artifact_of, fetch_artifacts, pom_digest, read_artifacts
from orion_beam.runners.jars.build import JAVA_SOURCES
from orion_beam.runners.jars.maven_settings import CENTRAL, find_repository

POM = "{http://maven.apache.org/POM/4.0.0}"


class Repository:
    """A Maven repository on this machine, which can be told to answer badly."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.failures: Counter[str] = Counter()
        self.answer_badly: Callable[[BaseHTTPRequestHandler, bytes], None] | None = None
        repository = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # noqa: N802 - what BaseHTTPRequestHandler calls it
                repository.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/maven2"

    def add(self, coordinates: str, content: bytes) -> Artifact:
        artifact = Artifact("job", coordinates, len(content), hashlib.sha256(content).hexdigest())
        self.files[f"/maven2/{artifact.path}"] = content
        return artifact

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers["Range"]
        self.asked.append((request.path.rpartition("/")[2], wanted))
        content = self.files.get(request.path)
        if content is None:
            request.send_response(404)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if self.failures[request.path] > 0 and self.answer_badly is not None:
            self.failures[request.path] -= 1
            self.answer_badly(request, content)
            return
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        request.send_response(206 if wanted else 200)
        if wanted:
            request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - first))
        request.end_headers()
        request.wfile.write(content[first:])


def unavailable(request: BaseHTTPRequestHandler, _: bytes) -> None:
    request.send_response(503)
    request.send_header("Content-Length", "0")
    request.end_headers()


def break_off(request: BaseHTTPRequestHandler, content: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content[: len(content) // 2])
    request.close_connection = True


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("MAVEN_OPTS", raising=False)
    found = Repository()
    monkeypatch.setenv("ORION_MAVEN_REPOSITORY", found.url)
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., list[str]]:
    def fetched(*artifacts: Artifact) -> list[str]:
        lines: list[str] = []
        directories = {"job": tmp_path / "job", "flink": tmp_path / "flink"}
        fetch_artifacts(artifacts, tmp_path / "store", directories, lines.append)
        return lines

    return fetched


def settings(tmp_path: Path, text: str) -> None:
    path = tmp_path / "user" / ".m2" / "settings.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0">{text}</settings>')


def test_files_are_fetched_once_and_told_in_bytes(repository, fetch, tmp_path):
    artifacts = [repository.add(f"org.example:part-{n}:1.{n}", bytes([n]) * 400_000) for n in range(20)]
    shared = replace(artifacts[0], part="flink")
    lines = fetch(*artifacts, shared)
    assert lines[0] == f"fetching 20 files, 8 MB, from {repository.url}"
    assert re.fullmatch(r"20 files, 8 MB, fetched in \d+ s", lines[-1])
    for n in range(20):
        assert (tmp_path / "job" / f"part-{n}-1.{n}.jar").read_bytes() == bytes([n]) * 400_000
    assert (tmp_path / "flink" / "part-0-1.0.jar").exists()
    assert len(repository.asked) == 20
    assert fetch(*artifacts) == []
    assert len(repository.asked) == 20


def test_a_wrong_hash_is_refused_by_name_and_the_file_is_not_kept(repository, fetch, tmp_path):
    good = repository.add("org.example:good:1", b"good")
    other = replace(repository.add("org.example:tampered:2:linux", b"evil"), sha256=hashlib.sha256(b"fine").hexdigest())
    with pytest.raises(
        PrerequisiteError, match="org.example:tampered:2:linux: .* its SHA-256 is .*, expected"
    ) as caught:
        fetch(good, other)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "job").glob("tampered*"))
    assert not list((tmp_path / "store").rglob("tampered*.jar*"))


@pytest.mark.parametrize("answer", [unavailable, break_off])
def test_a_repository_that_stumbles_is_asked_again(repository, fetch, tmp_path, answer):
    artifact = repository.add("org.example:big:1", bytes(range(256)) * 4_000)
    repository.answer_badly = answer
    repository.failures[f"/maven2/{artifact.path}"] = 1
    fetch(artifact)
    assert (tmp_path / "job" / "big-1.jar").read_bytes() == bytes(range(256)) * 4_000
    assert len(repository.asked) == 2


def test_a_file_that_was_begun_is_gone_on_with(repository, fetch, tmp_path):
    content = bytes(range(256)) * 1_000
    artifact = repository.add("org.example:big:1", content)
    part = tmp_path / "store" / f"{artifact.path}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content[:100_000])
    fetch(artifact)
    assert (tmp_path / "job" / "big-1.jar").read_bytes() == content
    assert repository.asked == [("big-1.jar", "bytes=100000-")]


def test_a_part_of_another_file_is_fetched_anew(repository, fetch, tmp_path):
    content = bytes(range(256)) * 1_000
    artifact = repository.add("org.example:big:1", content)
    part = tmp_path / "store" / f"{artifact.path}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1_000)
    fetch(artifact)
    assert (tmp_path / "job" / "big-1.jar").read_bytes() == content


def test_what_a_repository_lacks_is_named(repository, fetch):
    artifact = repository.add("org.example:gone:1", b"x")
    repository.files.clear()
    with pytest.raises(PrerequisiteError, match=r"org.example:gone:1 cannot be had from http://127.* answers 404") as e:
        fetch(artifact)
    assert "settings.xml" in str(e.value)
    assert len(repository.asked) == 1


@pytest.mark.usefixtures("repository")
def test_a_repository_that_is_not_there_is_named(fetch, monkeypatch):
    monkeypatch.setattr("orion_beam.runners.jars.artifacts._TRIES", 1)
    monkeypatch.setenv("ORION_MAVEN_REPOSITORY", "http://user:secret@127.0.0.1:9/maven2")
    with pytest.raises(PrerequisiteError, match=r"http://127.0.0.1:9/maven2 cannot be reached for org.x:y:1") as caught:
        fetch(Artifact("job", "org.x:y:1", 1, "0"))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_maven_s_own_copy_is_used_where_it_is_the_same(repository, fetch, tmp_path):
    same, other = repository.add("org.example:same:1", b"same"), repository.add("org.example:other:1", b"other")
    for artifact, content in ((same, b"same"), (other, b"OTHER")):
        kept = tmp_path / "user" / ".m2" / "repository" / artifact.path
        kept.parent.mkdir(parents=True)
        kept.write_bytes(content)
    fetch(same, other)
    assert [file for file, _ in repository.asked] == ["other-1.jar"]
    assert (tmp_path / "job" / "same-1.jar").read_bytes() == b"same"
    assert (tmp_path / "job" / "other-1.jar").read_bytes() == b"other"


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("mirror_of", "mirror", "expected"),
    [
        ("*", "https://mirror.example/r/", "https://mirror.example/r"),
        ("x, central", "${env.MIRROR}", "https://from.environment"),
        ("*,!central", "https://mirror.example", CENTRAL),
        ("external:http:*", "http://0.0.0.0", CENTRAL),
    ],
)
def test_mirrors_of_maven_s_settings_hold(tmp_path, monkeypatch, mirror_of, mirror, expected):
    monkeypatch.delenv("ORION_MAVEN_REPOSITORY")
    monkeypatch.setenv("MIRROR", "https://from.environment")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_repository().url == CENTRAL
    named = f"<id>m</id><mirrorOf>{mirror_of}</mirrorOf><url>{mirror}</url>"
    settings(tmp_path, f"<mirrors><mirror>{named}</mirror></mirrors>")
    assert find_repository().url == expected


@pytest.mark.usefixtures("repository")
def test_logins_proxies_and_the_local_repository_of_maven_s_settings_hold(tmp_path, monkeypatch):
    monkeypatch.delenv("ORION_MAVEN_REPOSITORY")
    monkeypatch.setenv("SECRET", "s3cret")
    settings(
        tmp_path,
        "<localRepository>${user.home}/kept</localRepository>"
        "<servers><server><id>m</id><username>me</username><password>${env.SECRET}</password></server></servers>"
        "<mirrors><mirror><id>m</id><mirrorOf>*</mirrorOf><url>https://m.example/r</url></mirror></mirrors>"
        "<proxies><proxy><active>false</active><host>old</host></proxy>"
        "<proxy><host>proxy</host><port>3128</port><username>p</username><password>a@b</password>"
        "<nonProxyHosts>localhost|*.internal</nonProxyHosts></proxy></proxies>",
    )
    found = find_repository()
    assert found.login == ("me", "s3cret")
    assert found.local == tmp_path / "user" / "kept"
    assert found.proxies == dict.fromkeys(("http", "https"), "http://p:a%40b@proxy:3128")
    assert "a%40b" not in repr(found)
    monkeypatch.setenv("ORION_MAVEN_REPOSITORY", "https://nexus.internal/r")
    assert find_repository().proxies == {"no_proxy": "nexus.internal"}
    monkeypatch.setenv("MAVEN_OPTS", f"-Xmx1g -Dmaven.repo.local={tmp_path}/elsewhere")
    assert find_repository().local == tmp_path / "elsewhere"


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    "text",
    [
        "<mirrors>",
        "<servers><server><id>central</id><username>u</username><password>{jSMOWnoPFg=}</password></server></servers>",
    ],
)
def test_settings_that_only_maven_can_read_are_refused_by_name(tmp_path, monkeypatch, text):
    monkeypatch.delenv("ORION_MAVEN_REPOSITORY")
    settings(tmp_path, text)
    with pytest.raises(PrerequisiteError, match=r"\.m2/settings\.xml") as caught:
        find_repository()
    assert "jSMOW" not in str(caught.value)


def test_the_list_is_of_this_pom():
    heading = (JAVA_SOURCES / "artifacts.txt").read_text().splitlines()[0]
    assert pom_digest(JAVA_SOURCES) in heading, "run `make lock-java`"


def test_the_list_has_what_the_pom_asks_for():
    pom = ElementTree.parse(JAVA_SOURCES / "pom.xml").getroot()
    properties = {entry.tag.removeprefix(POM): entry.text for entry in pom.find(f"{POM}properties")}
    listed = {(artifact.part, artifact.coordinates) for artifact in read_artifacts(JAVA_SOURCES)}
    asked = 0
    for profile in pom.iterfind(f"{POM}profiles/{POM}profile"):
        for dependency in profile.iterfind(f"{POM}dependencies/{POM}dependency"):
            if dependency.findtext(f"{POM}scope") == "test":
                continue
            named = ":".join(dependency.findtext(f"{POM}{name}") for name in ("groupId", "artifactId", "version"))
            coordinates = re.sub(r"\$\{([^}]+)\}", lambda found: properties[found[1]], named)
            assert (profile.findtext(f"{POM}id"), coordinates) in listed
            asked += 1
    assert asked > 10


def test_coordinates_and_place_in_a_repository_are_each_other_s(tmp_path):
    for coordinates in ("org.example:a-b:1.0-2", "io.netty:netty-transport:4.1:linux-x86_64"):
        path = tmp_path / Artifact("job", coordinates, 0, "").path
        path.parent.mkdir(parents=True)
        path.write_bytes(b"jar")
        assert artifact_of("job", tmp_path, path).coordinates == coordinates
