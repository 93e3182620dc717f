"""How a plan is cut into chunks: every offset once, a partition's in order and in one lane."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.replay.plan import MAX_CHUNK_OFFSETS, PartitionPlan, lanes_of, round_of


def plan(partition: int, low: int, high: int, topic: str = "cdr.raw.FR", gone: int | None = 0) -> PartitionPlan:
    return PartitionPlan(topic=topic, partition=partition, low=low, high=high, held_low=low, held_high=high, gone=gone)


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.one_of(st.integers(0, 50), st.integers(0, 4_000_000))), max_size=30),
    st.integers(1, 8),
)
def test_chunks_hold_each_offset_once_and_a_partition_s_in_order(ranges: list[tuple[int, int]], workers: int) -> None:
    plans = [plan(number, low, low + length) for number, (low, length) in enumerate(ranges)]
    lanes = lanes_of(plans, workers)

    numbers = [chunk.number for lane in lanes for chunk in lane]
    assert sorted(numbers) == list(range(len(numbers)))
    assert all(chunk.offsets <= MAX_CHUNK_OFFSETS for lane in lanes for chunk in lane)
    lane_of: dict[int, int] = {}
    reached: dict[int, int] = {}
    for place, lane in enumerate(lanes):
        for chunk in lane:
            for piece in chunk.slices:
                assert lane_of.setdefault(piece.partition, place) == place
                assert piece.low == reached.get(piece.partition, plans[piece.partition].low)
                assert piece.high > piece.low
                reached[piece.partition] = piece.high
    assert reached == {each.partition: each.high for each in plans if each.offsets}


def test_small_partitions_share_a_chunk_and_large_ones_have_several() -> None:
    plans = [plan(number, 0, 100) for number in range(12)] + [plan(12, 0, 2_000_000)]
    large, small = lanes_of(plans, 2)
    assert [chunk.offsets for chunk in large] == [250_000] * 8
    assert [len(chunk.slices) for chunk in small] == [12]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (plan(3, 500, 900, gone=120), "cdr.raw.FR[3]: 120 of the offsets asked for is deleted"),
        (plan(3, 500, 900, gone=None), "cdr.raw.FR[3]: what was below offset 500 is deleted; the first record left"),
        (plan(3, 500, 500, gone=None), "cdr.raw.FR[3]: what was below offset 500 is deleted; nothing is left of it"),
    ],
)
def test_what_is_deleted_is_said_with_what_is_left(part: PartitionPlan, says: str) -> None:
    assert part.is_truncated
    assert part.truncation.startswith(says)


@given(st.lists(st.integers(1, 3_000_000), max_size=12), st.integers(1, 8_000_000))
def test_rounds_do_each_chunk_once_and_in_order_and_hold_no_more_than_they_may(lengths: list[int], most: int) -> None:
    lanes = lanes_of([plan(number, 0, length) for number, length in enumerate(lengths)], 2)
    left, done = list(lanes), [[] for _ in lanes]
    while taken := round_of([lane for lane in left if lane], most):
        assert all(taken)
        chunks = [chunk for lane in taken for chunk in lane]
        assert sum(chunk.offsets for chunk in chunks) <= most or len(chunks) == 1
        for number, lane in enumerate(left):
            some = [chunk for chunk in lane if chunk in chunks]
            done[number] += some
            left[number] = lane[len(some) :]
    assert [tuple(lane) for lane in done] == list(lanes)


def test_every_worker_gets_a_lane_of_a_topic_and_a_chunk_has_a_piece_of_each_of_its_partitions() -> None:
    plans = [plan(number, 0, 300_000 + number) for number in range(12)]
    lanes = lanes_of(plans, 4)
    assert len(lanes) == 4
    for lane in lanes:
        held = {tuple(piece.partition for piece in chunk.slices) for chunk in lane}
        assert len(held) == 1
        assert len(held.pop()) == 3
