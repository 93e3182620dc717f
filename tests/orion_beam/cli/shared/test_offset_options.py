"""Which raw records options mean, and what is said of those that mean none."""

from datetime import UTC, datetime

import pytest

from orion_beam.cli.shared.offset_options import offsets_by_partition, time_of
from orion_beam.countries import profiles_of
from orion_beam.errors import UserError

PROFILES = profiles_of(["FR", "TN"])


@pytest.mark.parametrize("text", ["2026-01-01T00:00Z", "2026-01-01T01:00+01:00", "2025-12-31T19:00:00-05:00"])
def test_a_time_is_read_with_its_zone(text: str) -> None:
    assert time_of(text, "--from") == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-01-01T00:00", "has no offset: say which zone, such as 2026-01-01T00:00Z"),
        ("2026-13-01T00:00Z", "is no time: write it as 2026-01-01T00:00Z"),
        ("yesterday", "is no time"),
    ],
)
def test_a_time_without_a_zone_is_none(text: str, says: str) -> None:
    with pytest.raises(UserError, match=f"--to {text} {says}"):
        time_of(text, "--to")


def test_offsets_are_by_country_and_partition() -> None:
    assert offsets_by_partition("FR:0=100-2000, TN:11=0-1", PROFILES) == {
        ("cdr.raw.FR", 0): (100, 2000),
        ("cdr.raw.TN", 11): (0, 1),
    }


@pytest.mark.parametrize("text", ["0=1-2", "FR:0", "FR:0=1", "FR:0=-1-2", "SN:0=1-2", "fr:0=1-2", "FR:0=1-2;"])
def test_offsets_that_are_written_otherwise_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected COUNTRY:PARTITION=FIRST-END, such as FR:0=100-2000"):
        offsets_by_partition(text, PROFILES)


def test_a_range_has_a_start_before_its_end_and_a_partition_one_range() -> None:
    with pytest.raises(UserError, match="5 is not before 5"):
        offsets_by_partition("FR:0=5-5", PROFILES)
    with pytest.raises(UserError, match=r"names cdr\.raw\.FR\[0\] twice"):
        offsets_by_partition("FR:0=0-5,FR:0=7-9", PROFILES)
