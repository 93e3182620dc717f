"""The time of workers, added up over pools."""

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


@pytest.mark.parametrize("addresses", [[], ["127.0.0.1:1"]])
def test_without_a_pool_that_answers_nobody_knows(addresses: list[str]) -> None:
    assert worker_time(addresses) is None
