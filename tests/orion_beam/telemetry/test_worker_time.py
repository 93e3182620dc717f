"""The time of workers, added up over pools."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry

from orion_beam.monitoring.server import metrics_page, serving
from orion_beam.runners.local.broker import free_ports
from orion_beam.telemetry.worker_metrics import WorkerMetrics
from orion_beam.telemetry.worker_time import WorkerTime, worker_time
from orion_beam.testing import raw_batch
from orion_beam.transforms.stage.batches import SplitBatch
from orion_beam.transforms.stage.rejects import no_rejects


def test_the_times_of_all_stages_topics_and_pools_are_added_up() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    batch = raw_batch("FR", [b"208011234567890"])
    metrics.stage_done("decode", batch, SplitBatch(batch, no_rejects()), 0.5)
    metrics.stage_done("normalize", batch, SplitBatch(batch, no_rejects()), 0.25)
    metrics.waited("cdr.final", 2.0)
    metrics.waited("cdr.dlq", 1.0)
    with serving("127.0.0.1:0", {"/metrics": metrics_page(registry)}) as url:
        address = url.removeprefix("http://")
        assert worker_time([address]) == WorkerTime(stages=0.75, sink=3.0)
        assert worker_time([address, f"{url}/metrics"]) == WorkerTime(stages=1.5, sink=6.0)
        (nobody,) = free_ports(1)
        assert worker_time([address, f"127.0.0.1:{nobody}"]) is None


def test_a_pool_that_asks_for_a_token_gets_it_or_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o600)
    with serving("127.0.0.1:0", {"/metrics": metrics_page(CollectorRegistry())}, token) as url:
        address = url.removeprefix("http://")
        assert worker_time([address], token) == WorkerTime(stages=0.0, sink=0.0)
        assert worker_time([address]) is worker_time([address]) is None
        token.write_text("fedcba9876543210\n")
        assert worker_time([address], token) == WorkerTime(stages=0.0, sink=0.0)
        token.write_text("short")
        assert worker_time([address], token) is None
    (line,) = caplog.messages
    assert line == f"{url}/metrics asks for its token: give --metrics-token-file"


def test_a_token_does_not_follow_to_where_a_page_redirects(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    seen: list[str | None] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - name given by the base class
            seen.append(self.headers.get("Authorization"))
            self.send_response(302 if self.path == "/metrics" else 200)
            self.send_header("Location", "/other")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        worker_time([f"127.0.0.1:{server.server_port}"], token)
        server.shutdown()
        thread.join()
    assert seen == ["Bearer 0123456789abcdef", None]


@pytest.mark.parametrize("addresses", [[], ["127.0.0.1:1"]])
def test_without_a_pool_that_answers_nobody_knows(addresses: list[str]) -> None:
    assert worker_time(addresses) is None
