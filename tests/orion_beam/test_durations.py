"""Durations, as people write them."""

from datetime import UTC, datetime, timedelta

import pytest

from orion_beam.durations import format_duration, parse_duration_s


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800)])
def test_a_duration_is_read_and_written(text: str, seconds: int) -> None:
    assert parse_duration_s(text) == seconds
    assert format_duration(seconds) == text


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1.5h", "7 d", "7D", "٧d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration: write it as 90s, 15m, 12h or 7d"):
        parse_duration_s(text)


def test_the_longest_duration_stays_in_the_calendar() -> None:
    assert datetime.now(UTC) - timedelta(seconds=parse_duration_s("36500d"))
    with pytest.raises(ValueError, match="'36501d' is too long: the longest duration is 36500d"):
        parse_duration_s("36501d")
