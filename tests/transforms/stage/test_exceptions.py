"""The description of an exception: where it happened, and none of its text."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from orion_beam.transforms.stage.exceptions import name_of

NUMBER = "208011234567890"


def described(cause) -> str:
    with pytest.raises((KeyError, ValueError, pa.ArrowInvalid), match=NUMBER) as raised:
        cause()
    return name_of(raised.value)


def own() -> None:
    raise ValueError(NUMBER)


def in_a_library() -> None:
    pc.cast(pa.array([f"x{NUMBER}"]), pa.int64())


def in_compiled_code() -> None:
    pa.record_batch({"a": [1]}).column(NUMBER)


@pytest.mark.parametrize(
    ("cause", "expected"), [(own, "ValueError"), (in_a_library, "ArrowInvalid"), (in_compiled_code, "KeyError")]
)
def test_it_has_the_line_of_our_own_code_and_no_number(cause, expected):
    line = cause.__code__.co_firstlineno + 1
    assert described(cause) == f"{expected} at test_exceptions.py:{line}"
