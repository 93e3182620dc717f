"""Lines of files: where they end, and which of them are no records."""

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.countries import all_profiles
from orion_beam.io.lines import count_in, kind_of, kinds_of, lines_of
from orion_beam.schemas.raw_formats.declaration import SeparatedFormat
from orion_beam.telemetry.run_counters import BLANK_LINES, HEADER_LINES, TRAILER_LINES
from orion_beam.transforms.decode import column_names_of
from tests.strategies import payloads

PROFILES = all_profiles()


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


FR_HEADER = b"imsi;msisdn;imei;cell_id;rat;bytes_up;bytes_down;event_time"
PIPE_HEADER = b"imsi|msisdn|event_type|duration|bytes_up|bytes_down"
NO_RECORDS = [
    ("FR", FR_HEADER, HEADER_LINES),
    ("FR", FR_HEADER + b"\r", HEADER_LINES),
    ("FR", b"\xef\xbb\xbf" + FR_HEADER + b" ", HEADER_LINES),
    ("FR", FR_HEADER + b";", HEADER_LINES),
    ("FR", FR_HEADER.upper(), HEADER_LINES),
    ("FR", b'"' + FR_HEADER.replace(b";", b'" ; "') + b'"', HEADER_LINES),
    ("FR", PIPE_HEADER, HEADER_LINES),
    ("SN", PIPE_HEADER.title(), HEADER_LINES),
    ("MA", FR_HEADER.replace(b"imei;", b""), HEADER_LINES),
    ("FR", b"sep=;", HEADER_LINES),
    ("SN", b'"SEP=|"\r', HEADER_LINES),
    ("MA", b"H;20260601;1", HEADER_LINES),
    ("FR", b"HDR|operator|20260601120000", HEADER_LINES),
    ("SN", b"HDR20260601", HEADER_LINES),
    ("TN", b'"H";"2026"', HEADER_LINES),
    ("FR", b"T;204", TRAILER_LINES),
    ("SN", b"T00000204", TRAILER_LINES),
    ("SN", b"trailer 204 records\r", TRAILER_LINES),
    ("TN", b"EOF", TRAILER_LINES),
    ("CI", b"T;204;", TRAILER_LINES),
    ("FR", b"", BLANK_LINES),
    ("TN", b" \t\r", BLANK_LINES),
    ("SN", b"\xef\xbb\xbf\r", BLANK_LINES),
]
RECORDS = [
    ("MA", FR_HEADER),
    ("TN", FR_HEADER),
    ("FR", FR_HEADER + b";;"),
    ("FR", FR_HEADER.replace(b"msisdn;imei", b"imei;msisdn")),
    ("FR", b"\xff" + FR_HEADER),
    ("SN", b"T=1|IMSI=608011234567890"),
    ("SN", b"t x=1|IMSI=60801123456789"),
    ("SN", b"SEP=1|IMSI=608011234567890"),
    ("SN", b"HEADER=1|IMSI=2"),
    ("FR", b"T;208011234567890;+33612345678"),
    ("FR", b"T|123456789|voice|0|0|0"),
    ("FR", b"T;1;2;3;4;5;6;7"),
    ("FR", b"There is something else"),
    ("FR", b"HDRX;1"),
    ("FR", b'""'),
    ("FR", b"\0"),
    ("TN", b"{}"),
    ("CI", b"MTC;1"),
    ("CI", b"TMOC;1"),
]


@pytest.mark.parametrize(("country", "line", "kind"), [*NO_RECORDS, *((*each, None) for each in RECORDS)])
def test_what_a_line_is(country, line, kind):
    assert kind_of(line, PROFILES[country]) == kind


@pytest.mark.parametrize("country", PROFILES)
def test_among_many_lines_those_are_found_that_are_no_records(country):
    profile = PROFILES[country]
    some = [line for _, line, _ in NO_RECORDS] + [line for _, line in RECORDS] + [b"2", b"{}", b"IMSI=1"] * 50
    expected = {place: kind for place, line in enumerate(some) if (kind := kind_of(line, profile))}
    assert kinds_of(pa.array(some, pa.binary()), profile) == expected
    assert len(expected) >= 12


@pytest.mark.parametrize("country", PROFILES)
@given(data=st.data())
def test_no_record_of_a_country_is_taken_for_something_else(country, data):
    payload = data.draw(payloads(PROFILES[country]))
    kind = kind_of(payload, PROFILES[country])
    assert kind is None or not any(byte in payload for byte in b"0123456789")


@pytest.mark.parametrize("country", PROFILES)
def test_the_column_names_of_a_country_are_headers(country):
    for line in column_names_of(PROFILES[country]):
        for each in (line, line.upper(), '"' + line.replace(";", '";"').replace("|", '"|"') + '"'):
            assert kinds_of(pa.array([each.encode()], pa.binary()), PROFILES[country]) == {0: HEADER_LINES}


@pytest.mark.parametrize(
    ("trailer", "count"),
    [(b"T;204", 204), (b"TRL|0204|\r", 204), (b"T;1;2", None), (b"T", None), (b"T204", None), (b"T;2026-06-01", None)],
)
def test_a_trailer_has_a_count_if_it_has_one_number(trailer, count):
    assert count_in(trailer) == count


@pytest.mark.parametrize("separator", [",", "\t", "~"])
@pytest.mark.parametrize("header", [None, "T;IMSI;A NUMBER;TRAILER"])
def test_the_header_of_a_declared_format_is_known(separator, header):
    names = ("T", "IMSI", "A NUMBER", "TRAILER")
    declared = SeparatedFormat(
        name="own", kind="separated", separator=separator, columns=names, header=header,
        fields={"imsi": "IMSI", "msisdn": "A NUMBER"},
    )  # fmt: skip
    profile = PROFILES["FR"].model_copy(update={"formats": ("own",), "declared_formats": (declared,)})
    line = header or separator.join(names)
    quoted = separator.join(f'"{name}"' for name in names)
    for text in (line, line.lower(), line + separator, *([] if header else [quoted])):
        assert kind_of(text.encode(), profile) == HEADER_LINES
        assert kinds_of(pa.array([text.encode()], pa.binary()), profile) == {0: HEADER_LINES}
    assert kind_of(separator.join(["T", "1", "2", "3"]).encode(), profile) is None
