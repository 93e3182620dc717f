"""HTTP server of the monitor: metrics for Prometheus, a status page for people, and its numbers as JSON."""

import hmac
import json
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.monitoring.export import MonitorCollector
from orion_beam.monitoring.monitor import Monitor
from orion_beam.monitoring.status import status_of
from orion_beam.text_files.private import read_token

SITE = Path(__file__).parent / "site"

_LAST_PORT = 65_535

_PROBES = ("/live", "/ready")
"""Pages that need no token: Kubernetes asks for them without one."""

_CHALLENGES = ('Basic realm="orion-beam", charset="UTF-8"', 'Bearer realm="orion-beam"')
"""How a browser, and how Prometheus sends the token: as RFC 7617 and RFC 6750 have it."""

Answer = tuple[str, bytes]
"""Content type and body."""

Page = Callable[[str], Answer]
"""Function that makes the answer from the request's `Accept` header."""


class UnavailableError(Exception):
    """Raised by a page that answers with status 503 and this text: what it stands for is not ready."""


@contextmanager
def serving(
    address: str, pages: Mapping[str, Page], token_file: Path | None = None, *, option: str = "--listen"
) -> Iterator[str]:
    """Serve pages while the block runs; yield the server's URL.

    Args:
        address: Address as `host:port`; port 0 takes any free one.
        pages: The page of each path.
        token_file: File with the token that a request must bear, but for probes. It is read at each request, so that
            the token can be replaced. None: no token is asked for, so only this machine may reach the address.
        option: Option of the command line that gives the address, for errors.

    Raises:
        UserError: `address` is not of this form, or reaches beyond this machine without a token; or the token file
            cannot be used.
        PrerequisiteError: the server cannot listen on the address.
    """
    host, port = host_and_port(address)
    if token_file is not None:
        read_token(token_file)
    elif not is_loopback(host):
        raise UserError(
            f"{option} {address} shows its pages to whoever reaches it: listen on 127.0.0.1, or give"
            " --metrics-token-file"
        )

    class Handler(BaseHTTPRequestHandler):
        # Whoever asks without a token does not learn what runs here.
        server_version, sys_version = "orion-beam", ""

        def do_GET(self) -> None:  # noqa: N802 - name given by the base class
            path = self.path.partition("?")[0]
            if (
                token_file is not None
                and path not in _PROBES
                and not _bears(token_file, self.headers.get("Authorization", ""))
            ):
                self.send_response(401)
                for challenge in _CHALLENGES:
                    self.send_header("WWW-Authenticate", challenge)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            page = pages.get(path)
            if page is None:
                self.send_error(404)
                return
            status = 200
            try:
                kind, body = page(self.headers.get("Accept", ""))
            except UnavailableError as error:
                status, kind, body = 503, "text/plain; charset=utf-8", f"{error}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise PrerequisiteError(f"cannot listen on {address}: {error.strerror}; choose another address") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="orion-http", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def host_and_port(address: str) -> tuple[str, int]:
    """Return host and port of an address to listen on.

    Raises:
        UserError: the text is no such address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise UserError(f"{address!r} is no address to listen on: write it as HOST:PORT, such as 127.0.0.1:9310")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address to listen on."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _bears(token_file: Path, authorization: str) -> bool:
    """Return whether a request bears the token: as a bearer's token, or as the password of any user."""
    scheme, _, given = authorization.partition(" ")
    try:
        match scheme.lower():
            case "bearer":
                token = given.strip()
            case "basic":
                token = b64decode(given, validate=True).decode().partition(":")[2]
            case _:
                return False
        return hmac.compare_digest(token.encode(), read_token(token_file).encode())
    except (ValueError, UserError):
        return False


def metrics_page(registry: CollectorRegistry) -> Page:
    """Return the page that Prometheus scrapes."""

    def page(accept: str) -> Answer:
        encode, kind = choose_encoder(accept)
        return kind, encode(registry)

    return page


def monitor_pages(monitor: Monitor) -> dict[str, Page]:
    """Return the monitor's pages: `/`, `/metrics`, `/api/status`, and the probes `/live` and `/ready`."""
    registry = CollectorRegistry()
    registry.register(MonitorCollector(monitor))
    return {
        "/": lambda _: ("text/html; charset=utf-8", _site()),
        "/metrics": metrics_page(registry),
        "/api/status": lambda _: ("application/json", json.dumps(status_of(monitor)).encode()),
        "/live": lambda _: _NOTHING,
        "/ready": lambda _: _ready(monitor),
    }


_NOTHING: Answer = ("text/plain; charset=utf-8", b"")


def _ready(monitor: Monitor) -> Answer:
    if monitor.latest is None:
        raise UnavailableError("the monitor has not looked at Kafka yet")
    return _NOTHING


@cache
def _site() -> bytes:
    return (SITE / "index.html").read_bytes()
