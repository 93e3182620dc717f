"""The schema registry: one that wants a login, over TLS, behind a path, and those that answer as none should."""

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orion_beam.errors import UserError
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.schema_tools import registry
from orion_beam.schema_tools.registry import fetch_schema, register_schema

SCHEMA = '{"type": "string"}'
USER, PASSWORD = "orion", "hunter:2secret"

Answer = tuple[int, bytes]


@contextmanager
def serving(answer: Callable[[str, str], Answer], certificate: Path | None = None) -> Iterator[str]:
    """Run a server that answers by method and path; give its address. It lets in who knows the password, if asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer()

        def _answer(self) -> None:
            status, body = answer(self.command, self.path)
            if status == 200 and self.path.startswith("/closed/") and self.headers["Authorization"] != _basic():
                status, body = 401, b'{"error_code": 40101, "message": "Unauthorized"}'
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", "https://login.example/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _basic() -> str:
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def working(_: str, path: str) -> Answer:
    """Answer as a registry does, at the root or behind a path."""
    if "/subjects/cdr.final-value/versions" in path:
        return 200, b'{"id": 258}'
    if path.partition("?")[0].endswith("/schemas/ids/258"):
        return 200, json.dumps({"schema": SCHEMA}).encode()
    return 404, b'{"error_code": 40403, "message": "Schema 208011234567890 not found"}'


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with which clients log in; clients of other tests are forgotten."""
    registry._client.cache_clear()
    file = tmp_path / "client.properties"
    file.write_text("")
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    return file


@pytest.mark.parametrize("path", ["", "/", "/registry/apis/ccompat/v7/"])
def test_a_schema_is_registered_and_fetched_also_behind_a_path(path: str) -> None:
    with serving(working) as address:
        assert register_schema(address + path, "cdr.final-value", SCHEMA) == b"\0\0\0\1\2"
        assert fetch_schema(address + path, 258) == SCHEMA


def test_who_logs_in_is_said_in_the_file_and_shown_nowhere(config: Path) -> None:
    with serving(working) as address:
        with pytest.raises(UserError, match=r"lets nobody in \(401\): check schema.registry.basic.auth.user.info"):
            fetch_schema(f"{address}/closed", 258)
        config.write_text(f"schema.registry.basic.auth.user.info={USER}:wrong-{PASSWORD}\n# changed\n")
        registry._client.cache_clear()
        _forget_files()
        with pytest.raises(UserError, match="lets nobody in") as refused:
            fetch_schema(f"{address}/closed", 258)
        assert PASSWORD not in str(refused.value)
        config.write_text(f"schema.registry.basic.auth.user.info={USER}:{PASSWORD}\n")
        registry._client.cache_clear()
        _forget_files()
        assert fetch_schema(f"{address}/closed", 258) == SCHEMA


def _forget_files() -> None:
    from orion_beam.kafka import login

    login._read.cache_clear()


def test_the_certificate_of_a_registry_is_checked_against_the_file_s_ca(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = tmp_path / "registry.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate),
         "-keyout", str(certificate.with_suffix(".key"))],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setattr(registry, "_RETRIES", 0)
    with serving(working, certificate) as address:
        with pytest.raises(UserError, match="cannot be reached: .*CERTIFICATE_VERIFY_FAILED.*ssl.ca.location"):
            fetch_schema(address, 258)
        config.write_text("schema.registry.ssl.ca.location=registry.pem\n")
        registry._client.cache_clear()
        _forget_files()
        assert fetch_schema(address, 258) == SCHEMA


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((200, b"<html>welcome</html>"), "no registry does (with what is no JSON)"),
        ((200, b""), "answers as no registry does"),
        ((200, b"[]"), "answers as no registry does"),
        ((200, b'"text"'), "answers as no registry does"),
        ((200, b"{}"), "answers as no registry does"),
        ((200, b'{"id": "7", "schema": 7}'), "answers as no registry does"),
        ((200, b'{"id": -1, "schema": null}'), "answers as no registry does"),
        ((200, b"\xff\xfe"), "answers as no registry does"),
        ((302, b""), "no registry does (HTTP status 302)"),
        ((404, b"<html>not here</html>"), "no registry does (HTTP status 404)"),
        ((404, b"[]"), "no registry does (HTTP status 404)"),
        ((403, b""), "lets nobody in (403)"),
        ((409, b'{"error_code": 409, "message": "Schema being registered is incompatible"}'), "409 for"),
        ((422, b'{"error_code": 42201, "message": null}'), "422 for"),
    ],
)
def test_an_odd_answer_is_one_line_and_no_traceback(answer: Answer, problem: str) -> None:
    with serving(lambda *_: answer) as address:
        for ask in (lambda: register_schema(address, "cdr.final-value", SCHEMA), lambda: fetch_schema(address, 258)):
            with pytest.raises(UserError) as refused:
                ask()
            assert problem in str(refused.value)
            assert address in str(refused.value)


def test_what_a_registry_says_is_shown_without_numbers() -> None:
    with serving(working) as address, pytest.raises(UserError, match="404 for schema 7: Schema 2080•+890 not found"):
        fetch_schema(address, 7)


def test_a_registry_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_RETRIES", 0)
    with pytest.raises(UserError, match="schema registry http://127.0.0.1:1/x cannot be reached: .*--schema-registry"):
        fetch_schema("http://127.0.0.1:1/x", 258)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"http://{USER}:{PASSWORD}@registry:8081", "leave user and password out of the address"),
        (f"http://registry:8081,https://{USER}:{PASSWORD}@other", "leave user and password out of the address"),
        (f"{USER}:{PASSWORD}@registry:8081", "leave user and password out of the address"),
        ("registry:8081", "is no address"),
        ("ftp://registry", "is no address"),
        ("http://", "is no address"),
        ("http://registry:port", "is no address"),
        ("http://registry/?a=b", "is no address"),
        ("http://[::1", "is no address"),
        ("", "is no address"),
    ],
)
def test_an_address_that_is_none_or_holds_a_password_is_refused_without_it(url: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as refused:
        register_schema(url, "cdr.final-value", SCHEMA)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("schema.registry.url=http://x", r"schema.registry.url is not known: .*the address is --schema-registry"),
        ("schema.registry.basic.auth.user.info=hunter2", "write it as USER:PASSWORD"),
        ("schema.registry.ssl.ca.location=nowhere.pem", "nowhere.pem cannot be read: No such file"),
        ("schema.registry.ssl.ca.location=client.properties", "settings schema.registry.… of --kafka-config: "),
    ],
)
def test_settings_that_cannot_be_gone_by_are_named_without_their_values(config: Path, line: str, problem: str) -> None:
    config.write_text(f"{line}\n")
    _forget_files()
    with pytest.raises(UserError, match=problem) as refused:
        fetch_schema("http://127.0.0.1:1", 258)
    assert "hunter2" not in str(refused.value)
