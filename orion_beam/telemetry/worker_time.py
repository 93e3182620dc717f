"""Time that workers have spent in stages and in waits for brokers, as their pools' pages of metrics tell."""

import urllib.request
from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 5.0
_IN_STAGES, _FOR_BROKERS = "orion_stage_seconds_sum", "orion_produce_wait_seconds_total"


class WorkerTime(NamedTuple):
    """Seconds that the threads of all workers have spent since their pools began.

    Attributes:
        stages: In stages.
        sink: Waiting until brokers take records and acknowledge them.
    """

    stages: float
    sink: float


def worker_time(addresses: Iterable[str]) -> WorkerTime | None:
    """Add up the times of pools. None: one of them does not answer, or not with metrics, or there is no pool.

    Args:
        addresses: Where pools serve their metrics, each as `host:port` or as a URL of that page.
    """
    found = {_IN_STAGES: 0.0, _FOR_BROKERS: 0.0}
    pages = [each if "://" in each else f"http://{each}/metrics" for each in addresses]
    try:
        for page in pages:
            with urllib.request.urlopen(page, timeout=_TIMEOUT_S) as answer:
                text = answer.read().decode()
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name in found:
                        found[sample.name] += sample.value
    except (OSError, ValueError):
        return None
    return WorkerTime(found[_IN_STAGES], found[_FOR_BROKERS]) if pages else None
