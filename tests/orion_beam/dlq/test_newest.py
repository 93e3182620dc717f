"""The newest of many letters."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.dlq.newest import Newest
from orion_beam.io.letter_headers import ReadLetters
from tests.letters import messages_batch
from tests.orion_beam.dlq.desk import ARRIVED, letters, read, semicolon

LETTERS = letters("FR", [semicolon(rat="6G")] * 20)


def at(minutes: list[int], first: int = 0) -> ReadLetters:
    """Return letters that failed so many minutes after each other, at successive places."""
    batch = LETTERS.slice(0, len(minutes))
    for name, values in (
        ("failed_at", [ARRIVED + timedelta(minutes=each) for each in minutes]),
        ("letter_offset", range(first, first + len(minutes))),
    ):
        place = batch.schema.get_field_index(name)
        field = batch.schema.field(place)
        batch = batch.set_column(place, field, pa.array(values, field.type))
    return read(batch)


@given(st.lists(st.lists(st.integers(0, 9), max_size=20), max_size=5), st.integers(1, 12))
def test_the_newest_are_kept_in_order_whatever_order_they_come_in(batches: list[list[int]], limit: int) -> None:
    newest = Newest(limit)
    first, every = 0, []
    for minutes in batches:
        newest.add(at(minutes, first), np.zeros(len(minutes), np.bool_))
        every += [(each, first + place) for place, each in enumerate(minutes)]
        first += len(minutes)
    wanted = [f"5@{offset}" for _, offset in sorted(every, reverse=True)[:limit]]
    assert [each["place"] for each in newest.listed] == wanted
    assert newest.left_out == max(0, len(every) - limit)


def test_it_is_said_which_are_redriven_and_foreign_messages_are_among_them_by_their_time() -> None:
    newest = Newest(10)
    foreign = messages_batch((b"k", b"v", []))
    place = foreign.schema.get_field_index("source_timestamp")
    stamp = pa.array([ARRIVED + timedelta(minutes=1)], foreign.schema.field(place).type)
    foreign = foreign.set_column(place, foreign.schema.field(place), stamp)
    newest.add(ReadLetters(at([2, 0]).letters, foreign), np.array([False, True]))
    assert [(each["foreign"], each.get("redriven")) for each in newest.listed] == [
        (False, False), (True, None), (False, True)
    ]  # fmt: skip
