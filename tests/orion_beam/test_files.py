"""Files: one record a line, split at newlines alone; and Avro containers that appear as a whole or not at all."""

import io
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apache_beam as beam
import fastavro
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as LocalPipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.config import FileSink, FileSource, JobConfig
from orion_beam.countries import all_profiles
from orion_beam.files import DEAD_LETTER_FILE, FINAL_FILE, ReadFiles, WriteAvroFile, lines_of
from orion_beam.metrics import DEAD_LETTER, FINAL, HEADER_LINES, Outcome
from orion_beam.testing import rows
from runners.direct import run_direct
from schemas.dead_letter import DeadLetter
from schemas.raw import RAW_CDR_SCHEMA, Header
from transforms.batches import MAX_ROWS, RecordBatchCoder
from transforms.reference import ReferenceDataError

PIPE = b"208011234567890|33612345678|sms|||"
MTIME = datetime(2026, 6, 1, 12, tzinfo=UTC)


def lines(content: bytes, block_bytes: int = 1 << 20) -> list[bytes]:
    return [line for chunk in lines_of(io.BytesIO(content), block_bytes) for line in chunk]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\n\nb", [b"a", b"", b"b"]),
        (b"\n\na\n\n", [b"", b"", b"a", b""]),
        (b"a\r\nb\rc\n", [b"a\r", b"b\rc"]),
        (b'"a\nb"\n', [b'"a', b'b"']),
        (b"a\x00b\x1c\x85\x0b\x0c\n\xff\xe2\x80\xa8", [b"a\x00b\x1c\x85\x0b\x0c", b"\xff\xe2\x80\xa8"]),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 2, 3, 1 << 20])
def test_lines_are_split_at_newlines_alone(content, expected, block_bytes):
    assert lines(content, block_bytes) == expected


@given(content=st.binary(max_size=60).map(lambda some: some.replace(b"\x01", b"\n")), block_bytes=st.integers(1, 70))
def test_lines_do_not_depend_on_how_a_file_is_read(content, block_bytes):
    expected = content.split(b"\n")
    assert lines(content, block_bytes) == (expected[:-1] if expected[-1] == b"" else expected)


def read(tmp_path: Path, content: bytes, country: str = "FR", name: str = "input.csv") -> list[Any]:
    """Return the batches that ReadFiles makes of a file."""
    path = tmp_path / name
    path.write_bytes(content)
    os.utime(path, (MTIME.timestamp(), MTIME.timestamp()))
    encoded = tmp_path / "batches"
    encoded.mkdir()

    def keep(batch: Any) -> None:
        (encoded / f"{batch.column('source_offset')[0].as_py():09d}").write_bytes(RecordBatchCoder().encode(batch))

    with LocalPipeline() as pipeline:
        source = FileSource(inputs=((country, str(path)),))
        pipeline | ReadFiles(source, all_profiles()) | beam.Map(keep)
    return [RecordBatchCoder().decode(each.read_bytes()) for each in sorted(encoded.iterdir())]


def test_a_line_is_a_row_with_its_number_and_where_it_is_from(tmp_path):
    (batch,) = read(tmp_path, b"a\n\n\xff\r\nlast")
    assert batch.schema == RAW_CDR_SCHEMA
    assert rows(batch) == [
        {
            "raw_key": None,
            "raw_value": value,
            "raw_headers": [],
            "source_topic": str(tmp_path / "input.csv"),
            "source_partition": 0,
            "source_offset": number,
            "source_timestamp": MTIME,
            "country": "FR",
        }
        for number, value in enumerate([b"a", b"", b"\xff\r", b"last"])
    ]


def test_a_long_file_comes_in_batches_without_a_gap(tmp_path):
    batches = read(tmp_path, b"\n".join(str(number).encode() for number in range(2 * MAX_ROWS + 1)))
    assert [batch.num_rows for batch in batches] == [MAX_ROWS, MAX_ROWS, 1]
    assert [(row["source_offset"], row["raw_value"]) for row in rows(batches)] == [
        (number, str(number).encode()) for number in range(2 * MAX_ROWS + 1)
    ]


@pytest.mark.parametrize("content", [b"", b"imsi;msisdn;imei;cell_id;rat;bytes_up;bytes_down;event_time\n"])
def test_a_file_without_records_has_no_batches(tmp_path, content):
    assert read(tmp_path, content) == []


@pytest.mark.parametrize("name", ["a[1].csv", "a*.csv", "a?.csv", "a b.csv", "é.csv", "a{b}.csv"])
def test_a_name_is_a_name_and_no_pattern(tmp_path, name):
    (tmp_path / "a1.csv").write_bytes(b"another\n")
    assert [row["raw_value"] for row in rows(read(tmp_path, b"a\n", name=name))] == [b"a"]


FR_HEADER = b"imsi;msisdn;imei;cell_id;rat;bytes_up;bytes_down;event_time"
PIPE_HEADER = b"imsi|msisdn|event_type|duration|bytes_up|bytes_down"


@pytest.mark.parametrize(
    ("country", "header"),
    [
        ("FR", FR_HEADER),
        ("FR", FR_HEADER + b"\r"),
        ("FR", b"\xef\xbb\xbf" + FR_HEADER + b" "),
        ("FR", PIPE_HEADER),
        ("SN", PIPE_HEADER),
        ("MA", FR_HEADER.replace(b"imei;", b"")),
    ],
)
def test_a_header_line_is_skipped_and_keeps_its_number(tmp_path, country, header):
    found = rows(read(tmp_path, header + b"\n" + header + b"\na\n", country))
    assert [(row["source_offset"], row["raw_value"]) for row in found] == [(1, header), (2, b"a")]


@pytest.mark.parametrize(
    ("country", "line"),
    [
        ("MA", FR_HEADER),
        ("TN", FR_HEADER),
        ("FR", FR_HEADER + b";"),
        ("FR", FR_HEADER.upper()),
        ("FR", b"\xff" + FR_HEADER),
    ],
)
def test_a_line_that_is_not_the_countrys_header_is_a_record(tmp_path, country, line):
    assert [row["raw_value"] for row in rows(read(tmp_path, line + b"\n", country))] == [line]


def run(tmp_path: Path, inputs: dict[str, bytes], **changes: Any) -> dict[Outcome, int]:
    paths = []
    for country, content in inputs.items():
        path = tmp_path / f"{country}.input"
        path.write_bytes(content)
        paths.append((country, str(path)))
    fields = {
        "countries": tuple(inputs), "source": FileSource(inputs=tuple(paths)), "sink": FileSink(directory=tmp_path),
        "wire_prefix": b"",
    }  # fmt: skip
    return run_direct(JobConfig.model_validate(fields | changes))


def records_of(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return list(fastavro.reader(file))


def test_containers_hold_every_record_in_order_and_are_counted(tmp_path):
    good = b"\n".join(f"20801{number:010d}|33612345678|sms|||".encode() for number in range(5000))
    outcomes = run(tmp_path, {"FR": PIPE_HEADER + b"\n" + good + b"\n\xff\n\n", "SN": b"x"})
    assert outcomes == {
        Outcome(HEADER_LINES, "FR"): 1,
        Outcome(FINAL, "FR"): 5000,
        Outcome(DEAD_LETTER, "FR", "invalid_encoding"): 1,
        Outcome(DEAD_LETTER, "FR", "empty_payload"): 1,
        Outcome(DEAD_LETTER, "SN", "malformed_payload"): 1,
    }
    final = records_of(tmp_path / FINAL_FILE)
    assert [record["imsi"] for record in final] == [f"20801{number:010d}" for number in range(5000)]
    assert [record["source_offset"] for record in final] == list(range(1, 5001))
    letters = records_of(tmp_path / DEAD_LETTER_FILE)
    assert sorted((letter["country"], letter["value"]) for letter in letters) == [
        ("FR", b""),
        ("FR", b"\xff"),
        ("SN", b"x"),
    ]


def test_containers_of_a_run_without_records_are_empty_but_there(tmp_path):
    assert run(tmp_path, {"FR": b""}) == {}
    assert records_of(tmp_path / FINAL_FILE) == records_of(tmp_path / DEAD_LETTER_FILE) == []


def test_a_second_run_replaces_what_the_first_wrote_and_leaves_nothing_else(tmp_path):
    run(tmp_path, {"FR": PIPE + b"\n" + PIPE})
    run(tmp_path, {"FR": PIPE})
    assert len(records_of(tmp_path / FINAL_FILE)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {DEAD_LETTER_FILE, FINAL_FILE, "FR.input"}


def test_a_run_that_fails_leaves_no_container(tmp_path):
    with pytest.raises(ReferenceDataError):
        run(tmp_path, {"FR": PIPE}, cells=str(tmp_path / "nowhere.csv"))
    assert not (tmp_path / FINAL_FILE).exists()
    assert not (tmp_path / DEAD_LETTER_FILE).exists()


def test_a_write_that_fails_halfway_leaves_the_earlier_file_as_it_was(tmp_path):
    path = tmp_path / "headers.avro"
    path.write_bytes(b"earlier")

    def body(number: int) -> list[bytes]:
        if number == 2:
            raise OSError("disk full")
        return [b"\x02a\x00"]

    with pytest.raises(OSError, match="disk full"), LocalPipeline() as pipeline:
        pipeline | beam.Create([1, 2, 3], reshuffle=False) | beam.Map(body) | WriteAvroFile(path, Header)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_container_is_of_its_models_schema(tmp_path):
    path = tmp_path / "headers.avro"
    with LocalPipeline() as pipeline:
        bodies = pipeline | beam.Create([[b"\x02a\x00", b"\x02b\x02\x02\xff"], [], [b"\x02c\x00"]], reshuffle=False)
        written = bodies | WriteAvroFile(path, Header)
        assert_that(written, equal_to([str(path)]))
    found = records_of(path)
    assert sorted(record["key"] for record in found) == ["a", "b", "c"]
    assert {"key": "b", "value": b"\xff"} in found


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 8191, 8192])
def test_blocks_of_any_size_are_readable(tmp_path, count):
    path = tmp_path / "headers.avro"
    with LocalPipeline() as pipeline:
        pipeline | beam.Create([[b"\x02a\x00"] * count], reshuffle=False) | WriteAvroFile(path, Header)
    assert len(records_of(path)) == count


def test_dead_letters_in_files_are_records_of_their_model(tmp_path):
    run(tmp_path, {"FR": b"\xff\n;;;;;;;\n"})
    letters = [DeadLetter.model_validate(record) for record in records_of(tmp_path / DEAD_LETTER_FILE)]
    assert sorted((letter.value, letter.code.value, letter.source_offset) for letter in letters) == [
        (b";;;;;;;", "missing_field", 1), (b"\xff", "invalid_encoding", 0),
    ]  # fmt: skip
