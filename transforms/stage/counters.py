"""What a run counts of itself, as Beam counters: rows by what became of them, country and code."""

from apache_beam.metrics import Metrics

NAMESPACE = "orion"


def count(kind: str, country: str, code: str = "", rows: int = 1) -> None:
    """Add rows to a counter; call it from a DoFn."""
    Metrics.counter(NAMESPACE, "/".join([kind, country, code])).inc(rows)
