"""The search for subscribers' numbers finds them wherever a test may leave them, and takes nothing else for one."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration.numbers import NumberSearch, has_number

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "text",
    [
        "cannot read 208011234567890.",
        '{"msisdn": "+33612345678"}',
        "called=221771234567;",
        "imei:356938035643809\n",
        "\x1b[31m604021234567890\x1b[0m",
    ],
)
def test_a_number_is_found(text: str) -> None:
    assert has_number(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "offset 1764406123456",
        "2080•••••••890",
        "at 1764406123.208011234567890",
        "cdr.raw.FR 3@33612345",
    ],
)
def test_an_offset_a_time_and_a_masked_number_are_none(text: str) -> None:
    assert not has_number(text.encode())


def test_files_are_searched_once_but_those_of_cdrs_and_of_kafka_are_not() -> None:
    with TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "before.log").write_text("208011234567890")
        search = NumberSearch([place])
        for name in ("jobs/1.log", "records.csv", "kafka/cdr.raw.FR-0/0.log"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text("208011234567890")
        (place / "kafka" / "cdr.raw.FR-0" / "partition.metadata").touch()
        (place / "208011234567890").touch()
        assert sorted(search.found()) == [str(place / "208011234567890"), str(place / "jobs" / "1.log")]
        assert list(search.found()) == []
