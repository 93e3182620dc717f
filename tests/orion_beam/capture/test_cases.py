"""The files of captured records: every record survives, as a line where it is one."""

import os
from datetime import UTC, datetime

import pytest

from orion_beam.capture.cases import write_cases
from orion_beam.capture.slice import Captured
from orion_beam.countries import all_profiles
from orion_beam.errors import UserError
from orion_beam.testing import captured, raw_batch

FR = all_profiles()["FR"]
COLUMNS = b"imsi;msisdn;imei;cell_id;rat;bytes_up;bytes_down;event_time"
ARRIVED = datetime(2026, 6, 1, 12, 0, 0, 123_000, tzinfo=UTC)


def slice_of(*payloads: bytes | None) -> Captured:
    headers = [{"trace": b"\xff", "none": None} for _ in payloads]
    batch = raw_batch("FR", payloads, keys=[b"\xfe"] * len(payloads), headers=headers, timestamps=ARRIVED)
    return Captured(batch, [f"case {number}" for number in range(len(payloads))], 0)


def test_what_is_no_line_survives_beside_the_lines(tmp_path):
    given = slice_of(COLUMNS, b"a;b", b"two\nlines", None, b"", b"\xff\r", COLUMNS)
    assert write_cases(given, FR, tmp_path / "new") == 5
    folder = tmp_path / "new" / "fr"
    # In a file, blank lines and column names are no records.
    assert (folder / "input.txt").read_bytes() == b"a;b\n\xff\r\n"
    assert (folder / "cases.txt").read_text().splitlines() == ["case 1", "case 5"]
    assert captured(folder).equals(given.records)
    assert os.stat(folder / "input.txt").st_mtime == pytest.approx(ARRIVED.timestamp(), abs=1e-3)


def test_what_is_there_is_not_touched_and_a_broken_write_leaves_nothing(tmp_path):
    write_cases(slice_of(b"first"), FR, tmp_path)
    with pytest.raises(UserError, match="is there already"):
        write_cases(slice_of(b"second"), FR, tmp_path)
    assert (tmp_path / "fr" / "input.txt").read_bytes() == b"first\n"
    broken = slice_of(b"third")._replace(cases=[])
    with pytest.raises(IndexError):
        write_cases(broken, all_profiles()["TN"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fr"]
