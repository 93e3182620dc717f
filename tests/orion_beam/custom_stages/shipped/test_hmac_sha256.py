"""The compiled HMAC-SHA-256 against Python's own."""

import hmac

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.custom_stages.shipped.hmac_sha256 import KeyedHash

_values = st.none() | st.text(max_size=80) | st.text("0123456789", min_size=14, max_size=16)


@given(st.binary(max_size=100), st.lists(_values, max_size=20), st.integers(1, 9), st.integers(0, 3))
def test_it_is_hmac_sha256(key, values, times, start):
    column = pa.array(values * times, pa.string()).slice(start)
    digests = KeyedHash(key).of(column)
    assert digests.shape == (len(column), 4)
    for value, digest in zip(column.to_pylist(), digests, strict=True):
        expected = bytes(32) if value is None else hmac.digest(key, value.encode(), "sha256")
        assert digest.astype(">u8").tobytes() == expected
