"""Files: one record a line, split at newlines alone; and Avro containers that appear as a whole or not at all."""

import gzip
import os
import re
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apache_beam as beam
import fastavro
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as LocalPipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.config import FileSink, FileSource, JobConfig
from orion_beam.countries import all_profiles
from orion_beam.errors import InputFileError
from orion_beam.io.files import (
    DEAD_LETTER_FILE,
    FINAL_FILE,
    ReadFiles,
    WriteAvroFile,
    _JoinParts,
    _ReadLines,
    _WritePart,
)
from orion_beam.runners.direct import run_direct
from orion_beam.schemas.dead_letter import DeadLetter
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.raw import RAW_CDR_SCHEMA, Header
from orion_beam.telemetry.run_counters import (
    BLANK_LINES,
    DEAD_LETTER,
    FINAL_ROW,
    HEADER_LINES,
    LINES,
    SKIPPED,
    RowOutcome,
)
from orion_beam.testing import rows
from orion_beam.transforms.reference.file_content import _compression_of, encoding_of
from orion_beam.transforms.reference.reference_files import ReferenceDataError
from orion_beam.transforms.stage.batches import MAX_ROWS, RecordBatchCoder

PIPE_HEADER = b"imsi|msisdn|event_type|duration|bytes_up|bytes_down"
PIPE = b"208011234567890|33612345678|sms|||"
MTIME = datetime(2026, 6, 1, 12, tzinfo=UTC)

HEADER = avro_schema(Header)


def read(
    tmp_path: Path, content: bytes, country: str = "FR", name: str | bytes = "input.csv", **options: Any
) -> list[Any]:
    """Return the batches that ReadFiles makes of a file."""
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(content)
    os.utime(path, (MTIME.timestamp(), MTIME.timestamp()))
    encoded = tmp_path / "batches"
    encoded.mkdir()

    def keep(batch: Any) -> None:
        (encoded / f"{batch.column('source_offset')[0].as_py():09d}").write_bytes(RecordBatchCoder().encode(batch))

    with LocalPipeline() as pipeline:
        source = FileSource(inputs=((country, path),), **options)
        pipeline | ReadFiles(source, all_profiles()) | beam.Map(keep)
    return [RecordBatchCoder().decode(each.read_bytes()) for each in sorted(encoded.iterdir())]


def test_a_line_is_a_row_with_its_number_and_where_it_is_from(tmp_path):
    (batch,) = read(tmp_path, b"a\n{\n\xff\r\nlast")
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
        for number, value in enumerate([b"a", b"{", b"\xff\r", b"last"])
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


def test_the_time_of_arrival_is_what_it_is_told_to_be(tmp_path):
    told = datetime(2026, 1, 2, tzinfo=UTC)
    (batch,) = read(tmp_path, b"a\n", received_at=told)
    assert [row["source_timestamp"] for row in rows(batch)] == [told]


def test_a_name_may_be_of_any_bytes(tmp_path):
    (batch,) = read(tmp_path, b"a\n", name=b"caf\xe9.csv")
    assert [row["source_topic"] for row in rows(batch)] == [f"{tmp_path}/caf\\xe9.csv"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_text_of_another_encoding_becomes_records_of_utf_8(tmp_path, encoding):
    (batch,) = read(tmp_path, "é\r\n\nü".encode(encoding), encoding=encoding)
    assert [(row["source_offset"], row["raw_value"]) for row in rows(batch)] == [(0, "é\r".encode()), (2, "ü".encode())]


def test_a_pipe_is_opened_once_and_read_as_it_comes(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read_first = threading.Event()
    lines = MAX_ROWS + 1

    def write() -> None:
        with path.open("wb") as pipe:
            pipe.write(b"a\n" * lines)
            # The file is as long as the reader has patience: what it has must come out before the rest is there.
            pipe.write(b"b" * (1 << 21))
            pipe.flush()
            assert read_first.wait(600)
            pipe.write(b"\nb\n")

    writer = threading.Thread(target=write)
    writer.start()
    reader = _ReadLines(FileSource(inputs=(("FR", path),), received_at=MTIME), all_profiles())
    batches = reader.process(0)
    first = next(batches)
    read_first.set()
    counted = first.num_rows + sum(batch.num_rows for batch in batches)
    writer.join()
    assert (first.num_rows, counted) == (MAX_ROWS, lines + 2)


def run(tmp_path: Path, inputs: dict[str, bytes], ending: str = "", **changes: Any) -> dict[RowOutcome, int]:
    paths = []
    for country, content in inputs.items():
        path = tmp_path / f"{country}.input{ending}"
        path.write_bytes(content)
        paths.append((country, path))
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
        RowOutcome(LINES, "FR"): 5003,
        RowOutcome(HEADER_LINES, "FR"): 1,
        RowOutcome(BLANK_LINES, "FR"): 1,
        RowOutcome(FINAL_ROW, "FR"): 5000,
        RowOutcome(DEAD_LETTER, "FR", "invalid_encoding"): 1,
        RowOutcome(LINES, "SN"): 1,
        RowOutcome(DEAD_LETTER, "SN", "malformed_payload"): 1,
    }
    final = records_of(tmp_path / FINAL_FILE)
    assert [record["imsi"] for record in final] == [f"20801{number:010d}" for number in range(5000)]
    assert [record["source_offset"] for record in final] == list(range(1, 5001))
    letters = records_of(tmp_path / DEAD_LETTER_FILE)
    assert sorted((letter["country"], letter["value"]) for letter in letters) == [
        ("FR", b"\xff"),
        ("SN", b"x"),
    ]


PIECES = [
    PIPE, PIPE + b"|", b'"208011234567890"|33612345678|sms|||', b"", b" \t\r", b"\xef\xbb\xbf", PIPE_HEADER,
    PIPE_HEADER.upper() + b"|", b"sep=;", b"H;1", b"TRL|204", b"T;208011234567890", b"x", b"\xff", b"{", b"IMSI=1",
    b"\0", b'"', b"t=5|IMSI=1", b"1" * 70_000,
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=40), st.booleans(), st.data())
@settings(max_examples=5, deadline=None)
def test_every_line_comes_out_or_is_counted_as_no_record(tmp_path_factory, lines, is_ended, data):
    content = b"\n".join(lines) + b"\n" * is_ended
    if encoding_of(content) or _compression_of(content, ""):
        return
    packed, ending = (gzip.compress(content), ".gz") if data.draw(st.booleans()) else (content, "")
    folder = tmp_path_factory.mktemp("conservation")
    outcomes = run(folder, {"SN": packed}, ending)
    read = sum(rows for outcome, rows in outcomes.items() if outcome.kind == LINES)
    skipped = sum(rows for outcome, rows in outcomes.items() if outcome.kind in SKIPPED)
    records = [*records_of(folder / FINAL_FILE), *records_of(folder / DEAD_LETTER_FILE)]
    assert read == content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    assert read == len(records) + skipped
    assert len({record["source_offset"] for record in records}) == len(records)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(PIPE * 1000)[:-20], "its gzip data is cut off: the file is not complete"),
        (gzip.compress(PIPE) + b"garbage", "it is no sound gzip file"),
        (PIPE, "it is no sound gzip file"),
    ],
    # gzip writes the time: a name made of the bytes would differ from process to process.
    ids=["cut off", "garbage behind", "no gzip"],
)
def test_a_file_that_is_not_whole_is_refused_by_name_and_nothing_is_written(tmp_path, content, message):
    with pytest.raises(InputFileError, match=rf"{tmp_path}/FR\.input\.gz: {message}"):
        run(tmp_path, {"FR": content}, ".gz")
    assert [path.name for path in tmp_path.iterdir()] == ["FR.input.gz"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_text_of_16_bits_is_refused_with_the_way_out(tmp_path, encoding):
    content = b"\n".join([PIPE] * 3).decode().encode(encoding)
    with pytest.raises(InputFileError, match=f"{encoding.upper()}, not UTF-8: give --encoding {encoding}$"):
        run(tmp_path, {"FR": content})
    source = FileSource(inputs=(("FR", tmp_path / "FR.input"),), encoding=encoding)
    assert run(tmp_path, {"FR": content}, source=source)[RowOutcome(FINAL_ROW, "FR")] == 3


def told_of(tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes) -> list[str]:
    """Return what is said of a file when it has been read."""
    path = tmp_path / "FR.input"
    path.write_bytes(content)
    list(_ReadLines(FileSource(inputs=(("FR", path),)), all_profiles()).process(0))
    return capfd.readouterr().err.splitlines()


LATIN = "208011234567890|33612345678|é|||\n".encode("latin-1")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            PIPE + b"\n" + LATIN * 3,
            "3 of 4 lines are not UTF-8, first line 2: they are dead letters (invalid_encoding); if the file is"
            " Latin-1, --encoding latin-1 reads them",
        ),
        (
            b"a\x80\n",
            "1 of 1 lines are not UTF-8, first line 1: they are dead letters (invalid_encoding); if the file is"
            " Windows-1252, --encoding cp1252 reads them",
        ),
    ],
)
def test_lines_of_another_encoding_are_told_once_a_file(tmp_path, capfd, content, told):
    assert told_of(tmp_path, capfd, content) == [f"warning: {tmp_path}/FR.input: {told}"]


@pytest.mark.parametrize(
    ("trailer", "is_told"),
    [
        (b"T;3", False),
        (b"T;5", False),
        (b"T;2", True),
        (b"TRL|204\r", True),
        (b"T;204;7", False),
        (b"T", False),
    ],
)
def test_a_trailer_that_counts_other_records_than_there_are_is_told(tmp_path, capfd, trailer, is_told):
    told = told_of(tmp_path, capfd, b"\n".join([b"H;1", PIPE, PIPE, b"x", trailer]))
    said = re.search(rb"[0-9]+", trailer)
    text = f"the trailer in line 5 says {int(said[0]) if said else 0}, and 3 records came before it"
    assert told == [f"warning: {tmp_path}/FR.input: {text}: the file may not be complete"] * is_told


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
        pipeline | beam.Create([1, 2, 3], reshuffle=False) | beam.Map(body) | WriteAvroFile(path, HEADER)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_container_is_of_its_models_schema(tmp_path):
    path = tmp_path / "headers.avro"
    with LocalPipeline() as pipeline:
        bodies = pipeline | beam.Create([[b"\x02a\x00", b"\x02b\x02\x02\xff"], [], [b"\x02c\x00"]], reshuffle=False)
        written = bodies | WriteAvroFile(path, HEADER)
        assert_that(written, equal_to([str(path)]))
    found = records_of(path)
    assert sorted(record["key"] for record in found) == ["a", "b", "c"]
    assert {"key": "b", "value": b"\xff"} in found


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 8191, 8192])
def test_blocks_of_any_size_are_readable(tmp_path, count):
    path = tmp_path / "headers.avro"
    with LocalPipeline() as pipeline:
        pipeline | beam.Create([[b"\x02a\x00"] * count], reshuffle=False) | WriteAvroFile(path, HEADER)
    assert len(records_of(path)) == count


def test_the_parts_of_several_bundles_are_one_container(tmp_path):
    path, sync, parts = tmp_path / "headers.avro", bytes(range(16)), []
    for bodies in ([[b"\x02a\x00"], [b"\x02b\x00"] * 70], [[b"\x02c\x00"]], [[]]):
        bundle = _WritePart(path, HEADER, sync)
        bundle.start_bundle()
        for each in bodies:
            bundle.process(each)
        parts += [part.value for part in bundle.finish_bundle()]
    assert len(parts) == 2
    assert list(_JoinParts(HEADER, sync).process(path, parts)) == [str(path)]
    assert [record["key"] for record in records_of(path)] == ["a", *"b" * 70, "c"]
    assert list(tmp_path.iterdir()) == [path]


def test_dead_letters_in_files_are_records_of_their_model(tmp_path):
    run(tmp_path, {"FR": b"\xff\n;;;;;;;\n"})
    letters = [DeadLetter.model_validate(record) for record in records_of(tmp_path / DEAD_LETTER_FILE)]
    assert sorted((letter.value, letter.code, letter.source_offset) for letter in letters) == [
        (b";;;;;;;", "missing_field", 1), (b"\xff", "invalid_encoding", 0),
    ]  # fmt: skip
