"""Duplicates: which CDRs share a natural key, and what is said of the second one."""

import json
import pickle
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orion_beam.countries import all_profiles
from orion_beam.schemas.country import CountryProfile
from orion_beam.testing import Row, rows, run_stage
from orion_beam.transforms.record_checks.duplicates import (
    DuplicateMemory,
    FlagDuplicates,
    flag_duplicates,
    memory_of,
    natural_keys,
    with_warning,
)
from orion_beam.transforms.stage.batches import columns_of
from tests.transforms.chain import normalized

FR = all_profiles()["FR"]
CALL: dict[str, Any] = {
    "event_type": "voice", "imsi": "208011234567890", "msisdn": "+33612345678", "timestamp": "2026-06-01T10:00:00Z",
    "duration": 60, "called_number": "+33698765432",
}  # fmt: skip


def payload(**changes: Any) -> bytes:
    return json.dumps(CALL | changes).encode()


def flagged(*payloads: bytes, profile: CountryProfile = FR, window: int = 100, **options: Any) -> list[str | None]:
    batch = normalized("FR", payloads, **options)
    outcome = flag_duplicates(batch, profile, DuplicateMemory(window))
    assert outcome.accepted.num_rows == len(payloads)
    return outcome.accepted.column("duplicate_of").to_pylist()


def test_the_second_of_two_equal_records_says_where_the_first_was_read():
    assert flagged(payload(), payload(duration=61), payload(), partition=3, first_offset=40) == [
        None, None, "cdr.raw.FR[3]@40",
    ]  # fmt: skip


def test_a_duplicate_is_warned_of_and_nothing_else_of_it_changes():
    batch = normalized("FR", [payload(duration=0)] * 2)
    first, second = rows(flag_duplicates(batch, FR, DuplicateMemory(10)).accepted)
    assert first["warnings"] == ["zero_duration"]
    assert second == rows(batch)[1] | {"warnings": ["zero_duration", "duplicate"], "duplicate_of": "cdr.raw.FR[0]@0"}


@pytest.mark.parametrize(
    "changes",
    [
        {"imsi": "208011234567891"},
        {"timestamp": "2026-06-01T10:00:01Z"},
        {"event_type": "sms"},
        {"called_number": "+33698765433"},
        {"duration": 61},
        {"duration": None},
        {"bytes_uploaded": 0},
        {"bytes_downloaded": 60, "duration": None},
        {"charging_id": "4711"},
        {"node_id": "msc-1"},
        {"local_sequence_number": 1},
        {"record_sequence_number": 1},
        {"message_length": 1},
    ],
)
def test_records_that_differ_in_a_field_of_the_key_are_no_duplicates(changes):
    assert flagged(payload(), payload(**changes)) == [None, None]


@pytest.mark.parametrize(
    "changes",
    [
        {"msisdn": "0612345678"},
        {"called_number": "0033698765432"},
        {"timestamp": "2026-06-01T12:00:00"},
        {"rat": "LTE"},
    ],
)
def test_records_that_say_the_same_in_other_words_are_duplicates(changes):
    assert flagged(payload(), payload(**changes))[1] is not None


def test_the_same_value_in_another_field_is_another_key():
    assert flagged(payload(bytes_uploaded=7), payload(bytes_downloaded=7)) == [None, None]
    assert flagged(*(payload(bytes_uploaded=up, bytes_downloaded=down) for up, down in ((7, 9), (9, 7))))[1] is None


def test_a_profile_chooses_its_natural_key():
    profile = CountryProfile.model_validate(FR.model_dump() | {"duplicate_key": ["imsi", "charging_id"]})
    assert flagged(payload(), payload(duration=9), payload(charging_id="1"), profile=profile) == [
        None, "cdr.raw.FR[0]@0", None,
    ]  # fmt: skip


@pytest.mark.parametrize("fields", [[], ["cdr_id"]])
def test_a_natural_key_is_of_fields_that_a_cdr_has(fields):
    with pytest.raises(ValueError, match="duplicate_key"):
        CountryProfile.model_validate(FR.model_dump() | {"duplicate_key": fields})


def test_records_that_are_read_again_are_no_duplicates_of_themselves():
    batch, memory = normalized("FR", [payload(), payload(duration=1), payload()]), DuplicateMemory(100)
    once = flag_duplicates(batch, FR, memory).accepted
    assert flag_duplicates(batch.slice(1), FR, memory).accepted.equals(once.slice(1))
    assert flag_duplicates(batch, FR, memory).accepted.equals(once)


def test_a_duplicate_may_be_in_another_partition_or_file():
    memory = DuplicateMemory(100)
    for options, origin in (
        ({"topic": "a.csv"}, None),
        ({"topic": "b.csv"}, "a.csv[0]@0"),
        ({"topic": "b.csv", "partition": 1}, "a.csv[0]@0"),
    ):
        batch = normalized("FR", [payload()], **options)
        assert flag_duplicates(batch, FR, memory).accepted.column("duplicate_of").to_pylist() == [origin]


@settings(max_examples=40)
@given(data=st.data())
def test_what_is_flagged_does_not_depend_on_how_rows_are_cut(data: st.DataObject):
    kinds = data.draw(st.lists(st.integers(0, 4), min_size=2, max_size=12))
    window = data.draw(st.integers(1, 6))
    batch = _BATCH.take(pa.array(kinds))
    offset = batch.schema.get_field_index("source_offset")
    batch = batch.set_column(offset, "source_offset", pa.array(range(len(kinds)), pa.int64()))
    cuts = sorted({0, len(kinds), *data.draw(st.lists(st.integers(0, len(kinds))))})
    memory = DuplicateMemory(window)
    found: list[Row] = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        found += rows(flag_duplicates(batch.slice(start, end - start), FR, memory).accepted)
    assert found == rows(flag_duplicates(batch, FR, DuplicateMemory(window)).accepted)
    assert [row["duplicate_of"] is not None for row in found] == [
        kind in kinds[max(0, at - window) : at] for at, kind in enumerate(kinds)
    ]


_BATCH = normalized("FR", [payload(duration=duration) for duration in range(5)])


def test_keys_of_a_field_that_is_null_in_one_batch_and_not_in_another_agree():
    mixed = normalized("FR", [payload(), payload(charging_id="1")])
    together = natural_keys(columns_of(mixed), FR.duplicate_key)
    assert natural_keys(columns_of(mixed.slice(0, 1)), FR.duplicate_key)[0] == together[0]
    assert together[0] != together[1]


def test_a_warning_is_added_to_slices_too():
    lists = pa.array([["x"], [], ["a", "b"], [], ["c"]], pa.list_(pa.string())).slice(1)
    added = with_warning(lists, np.array([True, False, False, True]), "w")
    assert added.to_pylist() == [["w"], ["a", "b"], [], ["c", "w"]]
    assert added.type == lists.type


def test_the_transform_finds_duplicates_within_and_across_batches():
    batches = [normalized("FR", [payload(), payload()], first_offset=start) for start in (0, 2)]
    outcome = run_stage(FlagDuplicates(all_profiles(), 100), batches)
    assert [row["duplicate_of"] for row in outcome.accepted] == [None, *["cdr.raw.FR[0]@0"] * 3]
    assert outcome.dead_letters == []


def test_countries_do_not_share_a_memory():
    batches = [normalized(country, [payload()], topic="one") for country in ("FR", "MA")]
    outcome = run_stage(FlagDuplicates(all_profiles(), 1), batches)
    assert [row["duplicate_of"] for row in outcome.accepted] == [None, None]


def test_jobs_do_not_share_a_memory_but_the_copies_of_a_transform_do():
    transform = FlagDuplicates(all_profiles(), 10)
    copy = pickle.loads(pickle.dumps(transform))
    assert memory_of(copy.job, "FR", 10) is memory_of(transform.job, "FR", 10)
    assert memory_of(FlagDuplicates(all_profiles(), 10).job, "FR", 10) is not memory_of(transform.job, "FR", 10)


def test_threads_share_one_memory():
    memory = memory_of("threads", "FR", 10_000)
    batches = [normalized("FR", [payload()] * 50, partition=partition) for partition in range(8)]
    found: list[int] = []

    def work(batch: pa.RecordBatch) -> None:
        found.append(flag_duplicates(batch, FR, memory).accepted.column("duplicate_of").null_count)

    threads = [threading.Thread(target=work, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) == 1


def test_a_window_has_at_least_one_row():
    with pytest.raises(ValueError, match="window must be at least 1 row, not 0"):
        FlagDuplicates(all_profiles(), 0)
