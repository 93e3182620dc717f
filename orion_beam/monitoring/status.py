"""The monitor's numbers as JSON: the present state, and the last hour as columns for charts."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from orion_beam.monitoring.letters import FOREIGN
from orion_beam.monitoring.monitor import Monitor, Snapshot

MAX_POINTS = 240
"""Most points per chart; more than it has pixels would be sent for nothing."""


def status_of(monitor: Monitor) -> dict[str, Any]:
    """Return the present state by country, and the last hour.

    `history` has a column `at` (epoch seconds) and, for each country, columns of equal length with null where Kafka
    did not answer. It holds only counts and rates, nothing about a subscriber.
    """
    history = monitor.history
    latest = history[-1] if history else None
    countries = list(monitor.config.profiles)
    return {
        "is_up": None if latest is None else latest.is_up,
        "at": None if latest is None else latest.at_s,
        "interval_s": monitor.config.interval_s,
        "group": monitor.config.group_id,
        "brokers": None if latest is None or latest.reading is None else latest.reading.brokers,
        "countries": {code: _country(latest, code, monitor.config.profiles[code].name) for code in countries},
        "sink_ratio": None if latest is None else latest.sink_ratio,
        "jobs": [] if latest is None else _jobs(latest),
        "disks": {} if latest is None else {path: use.used_ratio for path, use in latest.disks.items()},
        "history": _history(_thinned(history), countries),
    }


def _country(latest: Snapshot | None, code: str, name: str) -> dict[str, Any]:
    letters = {} if latest is None else latest.letters
    codes: Counter[str] = Counter()
    for kind, count in letters.items():
        if kind.country == code and kind != FOREIGN:
            codes[kind.code] += count
    at = None if latest is None else latest.countries.get(code)
    return {
        "name": name,
        "rejects": dict(codes.most_common()),
        "pressed": None if latest is None else latest.pressed.get(code),
        "now": None if at is None else dict(vars(at)),
    }


def _jobs(latest: Snapshot) -> list[dict[str, Any]]:
    return [{"jobmanager": url, **vars(job)} for url, jobs in latest.jobs.items() for job in jobs or ()]


def _thinned(history: Sequence[Snapshot]) -> list[Snapshot]:
    step = -(-len(history) // MAX_POINTS) or 1
    # Thin from the end, so that the last look is always included.
    return list(history[::-1][::step][::-1])


def _history(history: Iterable[Snapshot], countries: Iterable[str]) -> dict[str, Any]:
    history = list(history)
    columns: dict[str, Any] = {"at": [round(snapshot.at_s, 1) for snapshot in history], "countries": {}}
    for code in countries:
        states = [snapshot.countries.get(code) for snapshot in history]
        columns["countries"][code] = {
            "arriving": [None if at is None else round(at.ingestion_rate, 1) for at in states],
            "processing": [None if at is None else round(at.processing_rate, 1) for at in states],
            "lag_s": [None if at is None else round(at.lag_s, 1) for at in states],
            "rejects": [None if not snapshot.is_up else round(_rejects(snapshot, code), 2) for snapshot in history],
        }
    return columns


def _rejects(snapshot: Snapshot, country: str) -> float:
    return sum(rate for (of, _), rate in snapshot.reject_rates.items() if of == country)
