"""The monitor's own thread."""

import pytest

from orion_beam.countries import profiles_of
from orion_beam.monitoring.monitor import Monitor, MonitorConfig
from tests.integration.harness import await_until


def test_whatever_a_look_raises_the_next_one_is_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = []

    def look(self: Monitor) -> None:
        looks.append(self)
        raise RuntimeError("208011234567890")

    monkeypatch.setattr(Monitor, "look", look)
    config = MonitorConfig("127.0.0.1:1", "group", profiles_of(["FR"]), interval_s=0.01)
    with Monitor(config):
        await_until(lambda: len(looks) > 2, 600, "it looks again")
    assert {record.event for record in caplog.records} == {"look_failed"}
    assert "RuntimeError at test_monitor.py:" in caplog.text
    assert "208011234567890" not in caplog.text
