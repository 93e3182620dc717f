"""Time that workers have spent in stages and in waits for brokers, as their pools' pages of metrics tell."""

import logging
import urllib.request
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

from prometheus_client.parser import text_string_to_metric_families

from orion_beam.errors import UserError
from orion_beam.text_files.private import read_token

_logger = logging.getLogger(__name__)

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


def worker_time(addresses: Iterable[str], token_file: Path | None = None) -> WorkerTime | None:
    """Add up the times of pools. None: one of them does not answer, or not with metrics, or there is no pool.

    Args:
        addresses: Where pools serve their metrics, each as `host:port` or as a URL of that page.
        token_file: File with the token that the pools ask for; None for no token.
    """
    found = {_IN_STAGES: 0.0, _FOR_BROKERS: 0.0}
    pages = [each if "://" in each else f"http://{each}/metrics" for each in addresses]
    try:
        for page in pages:
            request = urllib.request.Request(page)
            if token_file is not None:
                # Wherever the address may redirect, the token does not go.
                request.add_unredirected_header("Authorization", f"Bearer {read_token(token_file)}")
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                text = answer.read().decode()
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name in found:
                        found[sample.name] += sample.value
    except (OSError, ValueError, UserError) as error:
        if isinstance(error, HTTPError) and error.code == 401:
            _warn_of_token(page)
        return None
    return WorkerTime(found[_IN_STAGES], found[_FOR_BROKERS]) if pages else None


@cache
def _warn_of_token(page: str) -> None:
    """Warn once, although the page is asked every few seconds."""
    _logger.warning("%s asks for its token: give --metrics-token-file", page, extra={"event": "token_refused"})
