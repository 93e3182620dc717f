"""Plain JSON is read as the parser that knows all of JSON reads it; what is not plain is left to that one."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.transforms.decoders import Decoded
from orion_beam.transforms.decoders.json import JsonReader
from orion_beam.transforms.decoders.payloads import Payloads
from orion_beam.transforms.decoders.plain_json import Shape, read_plain
from orion_beam.transforms.decoders.registry import all_formats


def paths_of(name: str) -> tuple[str, ...]:
    declaration = all_formats()[name].declaration
    return tuple(path for source in declaration.sources for path in source.sources)


TN = ("subscriber", "network", "usage")
DEEP = (
    "usage[0].up",
    "usage[0].down",
    "usage[2].up",
    "subscriber.ids[0]",
    "subscriber.ids[1]",
    "subscriber.x.y",
    "imsi",
)
KINDS = {
    "tn": (paths_of("tn_json"), TN),
    "flat": (paths_of("flat_json"), ()),
    "deep": (DEEP, ()),
    "marked": (DEEP, ("timestamp", "subscriber", "y")),
}
TN_SHAPE = Shape.of([tuple(path.split(".")) for path in paths_of("tn_json")], [(name,) for name in TN])

numbers = st.integers(-(10**19), 10**20) | st.integers(0, 10) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.sampled_from('09aZ "\\\t\n é٣{}[]:,'), max_size=6)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts, st.just("208011234567890"))
names = st.sampled_from(
    ["imsi", "msisdn", "imei", "cell", "rat", "up", "down", "x", "", "ids", "usage", "subscriber", "network", "y",
     "timestamp", "event_type", "bytes_uploaded"]
)  # fmt: skip
inner = st.recursive(
    st.dictionaries(names, scalars, max_size=4),
    lambda nested: st.dictionaries(names, scalars | nested, max_size=4) | st.lists(scalars | nested, max_size=3),
    max_leaves=4,
)
members = st.sampled_from(["subscriber", "network", "usage", "timestamp", "imsi", "event_type", "bytes_uploaded", "y"])
objects = st.dictionaries(members, scalars | inner | st.lists(scalars | inner, max_size=3), max_size=6)
separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\n")])


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """JSON as it comes, and as it comes broken."""
    text = json.dumps(draw(objects), ensure_ascii=draw(st.booleans()), separators=draw(separators))
    if draw(st.booleans()):
        # Names may come twice.
        text = text[:-1] + ("," if len(text) > 2 else "") + json.dumps(draw(objects))[1:]
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(text)))
        put = draw(
            st.sampled_from(["", "", '"', "{", "}", ",", ":", "0", "-", "null", "\\", " ", "\x00", "1.5", "true"])
        )
        text = text[:place] + put + text[place + draw(st.integers(0, 2)) :]
    if text and draw(st.booleans()):
        # Two characters change places.
        first, second = sorted(draw(st.tuples(*[st.integers(0, len(text) - 1)] * 2)))
        if first < second:
            text = text[:first] + text[second] + text[first + 1 : second] + text[first] + text[second + 1 :]
    if draw(st.integers(0, 4)) == 4:
        text = text[: draw(st.integers(0, len(text)))]
    return text.encode()


def columns(decoded: Decoded, names: tuple[str, ...], rows: int) -> dict[str, list[str | None]]:
    """Return the fields of payloads that were read; those of a malformed one mean nothing."""
    nothing = pa.nulls(rows, pa.string())
    found = {name: decoded.texts.get(name, nothing).to_pylist() for name in names}
    return {
        name: [None if bad else value for bad, value in zip(decoded.is_malformed, values, strict=True)]
        for name, values in found.items()
    }


@pytest.mark.parametrize("kind", KINDS)
@given(raw=st.lists(payloads(), min_size=1, max_size=12), cut=st.integers(0, 3))
@settings(max_examples=50)
def test_plain_payloads_are_read_as_the_parser_reads_them(kind, raw, cut):
    names, markers = KINDS[kind]
    reader = JsonReader(names, markers)
    batch = Payloads.of(pa.array(raw, pa.binary()).slice(min(cut, len(raw) - 1)))
    by_both, by_parser = reader.decode(batch), reader.parse(batch)
    assert by_both.is_malformed.tolist() == by_parser.is_malformed.tolist()
    assert columns(by_both, names, len(batch)) == columns(by_parser, names, len(batch))
    if markers:
        is_read = ~by_parser.is_malformed
        assert (by_both.is_for_others & is_read).tolist() == (by_parser.is_for_others & is_read).tolist()


@pytest.mark.parametrize(
    "text",
    [
        '{"subscriber":{"imsi":"208"},"timestamp":1}',
        ' \t{ "subscriber" : { } , "usage" : null }\n',
        "{}",
        '{"timestamp":-5,"other":"é","imsi":0,"up":999999999999999999}',
        '{"other":{"x":[1,{"y":null}],"z":[]},"timestamp":1}',
        '{"other":[true,false,1.5,-0,-0.5e-3,1E+400,123456789012345678901234567890],"lat":48.85}',
    ],
)
def test_what_operators_send_is_plain(text):
    assert read_plain(Payloads.of(pa.array([text.encode()])), TN_SHAPE).is_plain.tolist() == [True]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{", "}", '{"a"}', '{"a":}', '{"a":1,}', '{,"a":1}', '{"a":1 "b":2}', '{"a":1}}', '{"a":1} x',
        '{"timestamp":01}', '{"timestamp":-0}', '{"timestamp":1.0}', '{"timestamp":1e3}', '{"timestamp":true}',
        '{"timestamp":"\\u0031"}', '{"timestamp":"a\tb"}', '{"timestamp":nul}', '{"timestamp":1000000000000000000}',
        '{"timestamp":1,"timestamp":2}', '{"subscriber":{},"subscriber":{}}', '{"subscriber":1}', '{"other":{}',
        '{"other":[1,]}', '{"other":[1 2]}', '{"other":[1}', '{"other":{"x":1]}',
        '{"other":' + "[" * 40 + "]" * 40 + "}",
        '{"subscriber":[]}', '{"subscriber":"null"}', '{"x":01}', '{"x":1.}', '{"x":.5}', '{"x":1e}', '{"x":tru}',
        '{"x":-}', '{"x":1e+}', '{"x":truex}', '{"x":+1}', '{"x":NaN}',
        '{"subscriber":{"imsi":{}}}', '{"subscriber":{"imsi":"1"}', '{"subscriber":{"imsi":"1",}}', '{"a":"', '{"a":-}',
    ],
)  # fmt: skip
def test_everything_else_is_left_to_the_parser(text):
    batch = Payloads.of(pa.array([b"x", text.encode(), b'{"timestamp":1}']))
    read = read_plain(batch.of_rows(np.array([1, 2])), TN_SHAPE)
    assert read.is_plain.tolist() == [False, True]
    assert all(field[0].as_py() is None for field in read.fields)
