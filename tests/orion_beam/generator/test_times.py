"""Spelled event times name the instant they were made from."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from orion_beam.generator.times import Spelling, last_gap, spelled
from orion_beam.schemas.fields import parse_event_time

PARIS = ZoneInfo("Europe/Paris")
WITH_MILLIS = {Spelling.ISO_MILLIS, Spelling.EPOCH_MILLIS}


@pytest.mark.parametrize("spelling", Spelling)
@pytest.mark.parametrize("zone", [PARIS, ZoneInfo("Africa/Casablanca"), ZoneInfo("America/St_Johns")])
def test_each_spelling_reads_back(spelling: Spelling, zone: ZoneInfo) -> None:
    # Across the spring change of clocks, and not across the autumn one, where local times name two instants.
    start = int(datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp() * 1000)
    instants = start + np.arange(0, 86_400_000, 733_123, dtype=np.int64)
    texts = spelled(instants, np.full(len(instants), spelling, dtype=np.int64), zone)
    for instant, text in zip(instants.tolist(), texts, strict=True):
        rounded = instant if spelling in WITH_MILLIS else instant // 1000 * 1000
        assert parse_event_time(text, zone) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=rounded)


def test_the_skipped_hour_does_not_exist() -> None:
    gap = last_gap(PARIS, 2026)
    assert gap == datetime(2025, 3, 30, 2, 30)
    with pytest.raises(ValueError, match="does not exist"):
        parse_event_time(gap.strftime("%Y-%m-%d %H:%M:%S"), PARIS)
    assert last_gap(ZoneInfo("Africa/Dakar"), 2026) is None
