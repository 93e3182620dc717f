"""What decoders ask of payloads: answered as Python does row by row, in slices, beside nulls and at the very end."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.schemas.fields import BLANKS
from orion_beam.transforms.decoders.payloads import Payloads, are_utf8
from tests.reading import parts_of

MARK = "\ufeff"
TEXTS = st.lists(st.text(st.sampled_from(f' \t\r\n;;|={{1aé漢😀{MARK}""""'), max_size=12), max_size=20)


@st.composite
def columns(draw) -> pa.BinaryArray:
    """Columns that are a part of another one, as batches that were cut are; a null may have bytes in the buffer."""
    texts = draw(TEXTS)
    is_valid = pa.array(draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))), pa.bool_())
    _, offsets, data = pa.array([text.encode() for text in texts], pa.binary()).buffers()
    column = pa.Array.from_buffers(pa.binary(), len(texts), [is_valid.buffers()[1], offsets, data])
    start = draw(st.integers(0, len(texts)))
    return column.slice(start, draw(st.integers(0, len(texts) - start)))


def untrimmed_of(column) -> list[str]:
    return [(value or b"").decode().removeprefix(MARK) for value in column.to_pylist()]


def texts_of(column) -> list[str]:
    return [text.rstrip(BLANKS) for text in untrimmed_of(column)]


@given(columns())
def test_a_payload_is_what_lies_between_byte_order_mark_and_trailing_blanks(column):
    payloads = Payloads.of(column)
    assert len(payloads) == len(column)
    assert payloads.texts().to_pylist() == texts_of(column)
    assert payloads.lengths.tolist() == [len(text.encode()) for text in texts_of(column)]


@given(columns(), st.data())
def test_some_rows_of_payloads_are_those_rows(column, data):
    rows = data.draw(st.lists(st.integers(0, max(0, len(column) - 1)), unique=True, max_size=len(column)).map(sorted))
    of_rows = Payloads.of(column).of_rows(pa.array(rows, pa.int64()).to_numpy())
    assert of_rows.texts().to_pylist() == [texts_of(column)[row] for row in rows]


@given(columns())
def test_characters_are_looked_for_inside_a_payload_alone(column):
    payloads, texts = Payloads.of(column), texts_of(column)
    assert payloads.begin_with(b"{").tolist() == [text.lstrip(BLANKS).startswith("{") for text in texts]
    assert payloads.hold(b"|;={").tolist() == [any(each in text for each in "|;={") for text in texts]
    firsts = [len(text.partition(";")[0].encode()) for text in texts]
    assert (payloads.first(b";") - payloads.starts).tolist() == firsts


@given(columns())
def test_characters_are_counted_not_bytes(column):
    payloads = Payloads.of(column)
    assert payloads.characters(payloads.ends).tolist() == [len(text) for text in texts_of(column)]
    assert payloads.characters(payloads.untrimmed_ends).tolist() == [len(text) for text in untrimmed_of(column)]


@given(columns(), st.integers(1, 4))
def test_parts_are_what_is_between_separators_and_null_where_there_is_none(column, parts):
    fields, separators = Payloads.of(column).split(b";", parts)
    split = [parts_of(text, ";") for text in texts_of(column)]
    # One separator behind all parts is none.
    expected = [each[:-1] if len(each) == parts + 1 and not each[-1] else each for each in split]
    assert separators.tolist() == [len(each) - 1 for each in expected]
    for part, field in enumerate(fields):
        field.validate(full=True)
        assert field.to_pylist() == [(each + [""] * parts)[part].strip(BLANKS) or None for each in expected]


@given(columns(), st.lists(st.integers(0, 14), min_size=2, max_size=5).map(sorted))
def test_fields_of_fixed_width_are_cut_by_character(column, places):
    fields = Payloads.of(column).cut_at(tuple(places))
    for field, start, end in zip(fields, places[:-1], places[1:], strict=True):
        field.validate(full=True)
        assert field.to_pylist() == [text[start:end].strip(BLANKS) or None for text in texts_of(column)]


def is_utf8(value: bytes | None) -> bool:
    try:
        return value is None or value.decode() is not None
    except UnicodeDecodeError:
        return False


PIECES = ["é", "漢", "😀", "a"]
BROKEN = [b"\xff", b"\x80", b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe6\xbc"]
VALUES = st.lists(st.sampled_from([each.encode() for each in PIECES] + BROKEN), max_size=4).map(b"".join)


@given(st.lists(st.none() | VALUES, max_size=12), st.data())
def test_utf8_is_what_python_decodes_each_row_for_itself(values, data):
    start = data.draw(st.integers(0, len(values)))
    column = pa.array(values, pa.binary()).slice(start, data.draw(st.integers(0, len(values) - start)))
    assert are_utf8(column).tolist() == [is_utf8(value) for value in column.to_pylist()]
