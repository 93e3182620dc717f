"""HTTP server of the monitor: metrics for Prometheus, a status page for people, and its numbers as JSON."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.monitoring.export import MonitorCollector
from orion_beam.monitoring.monitor import Monitor
from orion_beam.monitoring.status import status_of

SITE = Path(__file__).parent / "site"

_LAST_PORT = 65_535

Answer = tuple[str, bytes]
"""Content type and body."""

Page = Callable[[str], Answer]
"""Function that makes the answer from the request's `Accept` header."""


class UnavailableError(Exception):
    """Raised by a page that answers with status 503 and this text: what it stands for is not ready."""


@contextmanager
def serving(address: str, pages: Mapping[str, Page]) -> Iterator[str]:
    """Serve pages while the block runs; yield the server's URL.

    Args:
        address: Address as `host:port`; port 0 takes any free one.
        pages: The page of each path.

    Raises:
        UserError: `address` is not of this form.
        PrerequisiteError: the server cannot listen on the address.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - name given by the base class
            page = pages.get(self.path.partition("?")[0])
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

    host, port = host_and_port(address)
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


def metrics_page(registry: CollectorRegistry) -> Page:
    """Return the page that Prometheus scrapes."""

    def page(accept: str) -> Answer:
        encode, kind = choose_encoder(accept)
        return kind, encode(registry)

    return page


def monitor_pages(monitor: Monitor) -> dict[str, Page]:
    """Return the monitor's pages: `/`, `/metrics` and `/api/status`."""
    registry = CollectorRegistry()
    registry.register(MonitorCollector(monitor))
    return {
        "/": lambda _: ("text/html; charset=utf-8", _site()),
        "/metrics": metrics_page(registry),
        "/api/status": lambda _: ("application/json", json.dumps(status_of(monitor)).encode()),
    }


@cache
def _site() -> bytes:
    return (SITE / "index.html").read_bytes()
