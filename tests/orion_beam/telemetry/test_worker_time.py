"""The time of workers: over all pools, and of the pools of one country."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry

from orion_beam.monitoring.server import metrics_page, serving
from orion_beam.runners.local.broker import free_ports
from orion_beam.telemetry.worker_metrics import WorkerMetrics
from orion_beam.telemetry.worker_time import PoolTime, PoolTimes, WatchedPools, WorkerTime, pool_times
from orion_beam.testing import raw_batch
from orion_beam.transforms.stage.batches import SplitBatch
from orion_beam.transforms.stage.rejects import no_rejects

WINDOW_S = 3600.0


def work(metrics: WorkerMetrics) -> None:
    batch = raw_batch("FR", [b"208011234567890"])
    metrics.stage_done("decode", batch, SplitBatch(batch, no_rejects()), 0.5)
    metrics.stage_done("normalize", batch, SplitBatch(batch, no_rejects()), 0.25)
    metrics.waited("cdr.final", 2.0)
    metrics.waited("cdr.dlq", 1.0)


def test_the_times_of_all_stages_topics_and_pools_since_the_first_look_are_added_up() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    work(metrics)
    with serving("127.0.0.1:0", {"/metrics": metrics_page(registry)}) as url:
        one, two = (WatchedPools(pools, WINDOW_S) for pools in ([url.removeprefix("http://")], [f"{url}/metrics"] * 2))
        assert (one.look(), two.look()) == (None, None)
        work(metrics)
        of_one, of_two = one.look(), two.look()
        assert of_one is not None
        assert of_one.of_all() == WorkerTime(of_one.elapsed_s, stages=0.75, sink=3.0)
        assert of_one.of_country("FR") == of_one.of_all()
        assert of_one.of_country("TN") is None
        assert of_two is not None
        assert of_two.of_all()[1:] == (1.5, 6.0)


NOTHING = (PoolTime(0.0, 0.0, {}),)


def test_a_pool_that_asks_for_a_token_gets_it_or_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o600)
    with serving("127.0.0.1:0", {"/metrics": metrics_page(CollectorRegistry())}, token) as url:
        address = url.removeprefix("http://")
        assert pool_times([address], token) == NOTHING
        assert pool_times([address]) is pool_times([address]) is None
        token.write_text("fedcba9876543210\n")
        assert pool_times([address], token) == NOTHING
        token.write_text("short")
        assert pool_times([address], token) is None
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
        pool_times([f"127.0.0.1:{server.server_port}"], token)
        server.shutdown()
        thread.join()
    assert seen == ["Bearer 0123456789abcdef", None]


@pytest.mark.parametrize("pools", [0, 1])
def test_without_a_pool_that_answers_nobody_knows(pools: int) -> None:
    watched = WatchedPools([f"127.0.0.1:{port}" for port in free_ports(pools)], WINDOW_S)
    assert (watched.look(), watched.look()) == (None, None)


FR = PoolTime(10.0, 5.0, {"FR": 1000})
TN = PoolTime(7.0, 1.0, {"TN": 500})


def test_the_time_of_a_pool_is_a_country_s_if_it_works_for_no_other() -> None:
    later = FR._replace(stages=11.0, records={"FR": 1500}), TN._replace(sink=3.0, records={"TN": 600})
    times = PoolTimes(10.0, (FR, TN), later)
    assert times.of_country("FR") == (10.0, 1.0, 0.0)
    assert times.of_country("TN") == (10.0, 0.0, 2.0)
    assert times.of_country("MA") is None
    both = PoolTime(20.0, 5.0, {"FR": 1000, "TN": 200})
    # It has worked for TN once, and does no more.
    assert PoolTimes(10.0, (both,), (both._replace(stages=21.0, records={"FR": 1500, "TN": 200}),)).of_country("FR")
    assert PoolTimes(10.0, (both,), (both._replace(records={"FR": 1500, "TN": 201}),)).of_country("FR") is None


def test_a_pool_that_has_been_started_again_counts_as_0() -> None:
    assert PoolTimes(10.0, (FR,), (PoolTime(0.5, 0.0, {"FR": 3}),)).of_all() == (10.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("stages", "sink", "busy", "of_brokers"),
    [(0.0, 0.0, None, None), (2.0, 2.0, 0.2, 0.5), (16.0, 4.0, 1.0, 0.2), (30.0, 10.0, 1.0, 0.25)],
)
def test_two_threads_are_busy_for_the_part_of_the_time_that_they_spend(
    stages: float, sink: float, busy: float | None, of_brokers: float | None
) -> None:
    spent = WorkerTime(10.0, stages, sink)
    assert (spent.busy_ratio(2), spent.sink_ratio) == (busy, of_brokers)
