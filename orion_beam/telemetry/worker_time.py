"""Time that workers have spent in stages and in waits for brokers, as their pools' pages of metrics tell."""

import logging
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Iterable, Mapping
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
_RECORDS, _FIRST_STAGE = "orion_records_in_total", "decode"


class PoolTime(NamedTuple):
    """What the threads of a pool's workers have done since the pool began.

    Attributes:
        stages: Seconds in stages. A stage counts when it returns.
        sink: Seconds of waits until brokers take records and acknowledge them. A wait counts while it goes on.
        records: Records that were decoded, by country.
    """

    stages: float
    sink: float
    records: Mapping[str, float]


def pool_times(addresses: Iterable[str], token_file: Path | None = None) -> tuple[PoolTime, ...] | None:
    """Return the times of pools, in order. None: one does not answer, or not with metrics, or there is none.

    Args:
        addresses: Where pools serve their metrics, each as `host:port` or as a URL of that page.
        token_file: File with the token that the pools ask for; None for no token.
    """
    pages = [each if "://" in each else f"http://{each}/metrics" for each in addresses]
    times = []
    for page in pages:
        if (answered := _pool_time(page, token_file)) is None:
            return None
        times.append(answered)
    return tuple(times) or None


def _pool_time(page: str, token_file: Path | None) -> PoolTime | None:
    request = urllib.request.Request(page)
    try:
        if token_file is not None:
            # Wherever the address may redirect, the token does not go.
            request.add_unredirected_header("Authorization", f"Bearer {read_token(token_file)}")
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            return _time_of(answer.read().decode())
    except (OSError, ValueError, UserError) as error:
        if isinstance(error, HTTPError) and error.code == 401:
            _warn_of_token(page)
        return None


@cache
def _warn_of_token(page: str) -> None:
    """Warn once, although the page is asked every few seconds."""
    _logger.warning("%s asks for its token: give --metrics-token-file", page, extra={"event": "token_refused"})


def _time_of(metrics: str) -> PoolTime:
    found = {_IN_STAGES: 0.0, _FOR_BROKERS: 0.0}
    records: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name] += sample.value
            elif sample.name == _RECORDS and sample.labels["stage"] == _FIRST_STAGE:
                records[sample.labels["country"]] += sample.value  # type: ignore[assignment]  # counts are floats
    return PoolTime(found[_IN_STAGES], found[_FOR_BROKERS], records)


class WorkerTime(NamedTuple):
    """What the threads of workers have done in some time.

    Attributes:
        elapsed_s: That time.
        stages: Seconds in stages, of all threads together.
        sink: Seconds of waits for brokers, of all threads together.
    """

    elapsed_s: float
    stages: float
    sink: float

    @property
    def sink_ratio(self) -> float | None:
        """Part of the time in stages and waits that went to waits. None: the workers did neither."""
        spent = self.stages + self.sink
        return self.sink / spent if spent else None

    def busy_ratio(self, threads: int) -> float | None:
        """Return for which part of the time so many threads were in stages or waited for brokers, at most 1.

        None: they did neither. They have nothing to do, or a stage has not returned yet, and nobody can tell which.
        """
        spent = self.stages + self.sink
        return min(1.0, spent / (self.elapsed_s * threads)) if spent else None


class PoolTimes(NamedTuple):
    """What each pool has done between two looks.

    Attributes:
        elapsed_s: Time between the looks.
        before: What each had done at the first look.
        after: The same at the second, in the same order.
    """

    elapsed_s: float
    before: tuple[PoolTime, ...]
    after: tuple[PoolTime, ...]

    def of_all(self) -> WorkerTime:
        """Return what all pools did. One that has been started again begins at 0, and counts as 0."""
        pairs = list(zip(self.before, self.after, strict=True))
        stages = sum(max(0.0, now.stages - then.stages) for then, now in pairs)
        return WorkerTime(self.elapsed_s, stages, sum(max(0.0, now.sink - then.sink) for then, now in pairs))

    def of_country(self, country: str) -> WorkerTime | None:
        """Return what the pools did that work for a country. None: none does, or one of them works for others, too.

        A pool does not say how its time is shared out among countries.
        """
        own = [(then, now) for then, now in zip(self.before, self.after, strict=True) if now.records.get(country)]
        for then, now in own:
            if any(read > then.records.get(other, 0) for other, read in now.records.items() if other != country):
                return None
        if not own:
            return None
        before, after = zip(*own, strict=True)
        return PoolTimes(self.elapsed_s, before, after).of_all()


class WatchedPools:
    """Looks at the metrics of pools, and says what they did over a window."""

    def __init__(self, addresses: Iterable[str], window_s: float, token_file: Path | None = None) -> None:
        """Keep where pools serve their metrics and the file of their token, as for `pool_times`, and the window."""
        self._addresses = tuple(addresses)
        self._token_file = token_file
        self._window_s = window_s
        self._past: deque[tuple[float, tuple[PoolTime, ...]]] = deque()

    def look(self) -> PoolTimes | None:
        """Look at each pool; return what they did since a look that is a window old, or since the first one.

        None: there is no pool, one does not answer, or this is the first look.
        """
        now, at_s = pool_times(self._addresses, self._token_file), time.monotonic()
        if now is None:
            self._past.clear()
            return None
        self._past.append((at_s, now))
        while len(self._past) > 2 and self._past[1][0] <= at_s - self._window_s:
            self._past.popleft()
        since_s, before = self._past[0]
        return PoolTimes(at_s - since_s, before, now) if at_s > since_s else None
