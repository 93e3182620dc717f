"""The monitor's own thread."""

import pytest

from orion_beam.countries import profiles_of
from orion_beam.monitoring.monitor import Monitor, MonitorConfig, pressed_at
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


@pytest.mark.parametrize(
    ("held_ratio", "lag_s", "sink_ratio", "place"),
    [
        (None, 600, 1.0, None),
        (0.1, 10, 1.0, None),
        (0.1, 600, 1.0, "source"),
        (0.9, 10, 0.9, "sink"),
        (0.9, 10, 0.1, "python"),
        (0.9, 600, None, "workers"),
    ],
)
def test_records_are_held_up_at_the_first_place_that_is_slower_than_what_comes_before_it(
    held_ratio: float | None, lag_s: float, sink_ratio: float | None, place: str | None
) -> None:
    assert pressed_at(held_ratio, lag_s, sink_ratio) == place
