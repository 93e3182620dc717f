"""Client of a Prometheus: the alerts that fire, and the value of a query."""

import json
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.integration.harness import await_until

PATIENCE_S = 600.0

Alert = tuple[str, str | None]
"""Name of an alert, and its country, if it has one."""


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus server.

    Attributes:
        prometheus: URL of the server, with a slash at its end.
    """

    prometheus: str

    def await_history(self) -> None:
        """Wait until there are more than eight scrapes within a minute, so that rates have a history."""
        query = "count_over_time(orion_kafka_up[1m])"
        await_until(lambda: (self.value(query) or 0) > 8, PATIENCE_S, "Prometheus has scraped for a while")

    def firing(self) -> set[Alert]:
        """Return the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"].get("country"))
            for alert in alerts
            if alert["state"] == "firing"
        }

    def await_firing(self, *alerts: Alert) -> None:
        """Wait until all of these fire."""
        await_until(lambda: set(alerts) <= self.firing(), PATIENCE_S, f"{alerts} fire")

    def await_clear(self, *alerts: Alert) -> None:
        """Wait until none of these fires."""
        await_until(lambda: not set(alerts) & self.firing(), PATIENCE_S, f"{alerts} clear")

    def value(self, query: str) -> float | None:
        """Return the first value of a query's answer; None for an empty answer."""
        found = self._get(f"query?{urllib.parse.urlencode({'query': query})}")["result"]
        return float(found[0]["value"][1]) if found else None

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.prometheus}api/v1/{path}", timeout=600) as answer:
            return json.load(answer)["data"]
