"""Beam counters of a run: rows by kind of outcome, country and code."""

from apache_beam.metrics import Metrics

NAMESPACE = "orion"


def count(kind: str, country: str, code: str = "", rows: int = 1) -> None:
    """Add `rows` to a counter. Call it from a DoFn."""
    Metrics.counter(NAMESPACE, "/".join([kind, country, code])).inc(rows)
