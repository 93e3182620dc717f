"""Two replays side by side: each kind of difference is found, counted by country, and shown without numbers."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orion_beam.replay.compare import Comparison, Difference, DifferenceKind, DifferenceSample, compare_replays

DEAD = {"source_topic": pl.String, "source_partition": pl.Int32, "source_offset": pl.Int64, "codes": pl.List(pl.String)}


def final(offset: int, **fields: Any) -> dict[str, Any]:
    usual = {"imsi": "208011234567890", "rat": "4G", "bytes_up": 7, "warnings": ["late"], "run_id": "any"}
    return {"source_topic": "raw", "source_partition": 0, "source_offset": offset} | usual | fields


def write(directory: Path, finals: list[dict[str, Any]], dead: dict[int, list[str]], partition: int = 0) -> Path:
    day = directory / "cdr.final" / "country=FR" / "event_date=2026-01-02"
    day.mkdir(parents=True, exist_ok=True)
    if finals:
        pl.DataFrame(finals).with_columns(pl.col("source_partition").cast(pl.Int32)).write_parquet(
            day / f"{partition}.parquet"
        )
    if dead:
        letters = directory / "cdr.dlq" / "country=FR"
        letters.mkdir(parents=True, exist_ok=True)
        rows = [("raw", partition, offset, codes) for offset, codes in dead.items()]
        pl.DataFrame(rows, DEAD, orient="row").write_parquet(letters / f"{partition}.parquet")
    return directory


@pytest.fixture
def compare(tmp_path):
    def call(old: tuple[Any, Any], new: tuple[Any, Any], **options: Any) -> Comparison:
        return compare_replays(write(tmp_path / "old", *old), write(tmp_path / "new", *new), **options)

    return call


def test_equal_replays_have_no_difference_though_their_names_differ(compare) -> None:
    found = compare(([final(0), final(1)], {2: ["a"]}), ([final(1, run_id="new"), final(0)], {2: ["a"]}))
    assert found.is_equal
    assert (found.records, found.unmatched) == (3, 0)


def test_changed_fields_are_counted_and_shown_masked(compare) -> None:
    found = compare(
        ([final(0), final(1), final(2)], {}),
        ([final(0, rat="5G"), final(1, rat=None, imsi="208019999999999"), final(2, warnings=[])], {}),
    )
    assert dict(found.counts) == {
        Difference(DifferenceKind.CHANGED, "FR", "rat"): 2,
        Difference(DifferenceKind.CHANGED, "FR", "imsi"): 1,
        Difference(DifferenceKind.CHANGED, "FR", "warnings"): 1,
    }
    assert found.samples[Difference(DifferenceKind.CHANGED, "FR", "rat")] == [
        DifferenceSample("raw[0]@0", "4G", "5G"),
        DifferenceSample("raw[0]@1", "4G", ""),
    ]
    (numbers,) = found.samples[Difference(DifferenceKind.CHANGED, "FR", "imsi")]
    assert numbers == ("raw[0]@1", "2080••••••••890", "2080••••••••999")


def test_rejects_that_are_new_fixed_or_other_are_told_apart_by_rule(compare) -> None:
    found = compare(
        ([final(0), final(1)], {2: ["a"], 3: ["a", "b"], 4: ["a"]}),
        ([final(2), final(3)], {0: ["x"], 1: ["x", "x", "y"], 4: ["c"]}),
    )
    assert dict(found.counts) == {
        Difference(DifferenceKind.NEW_REJECT, "FR", "x"): 2,
        Difference(DifferenceKind.NEW_REJECT, "FR", "y"): 1,
        Difference(DifferenceKind.FIXED_REJECT, "FR", "a"): 2,
        Difference(DifferenceKind.FIXED_REJECT, "FR", "b"): 1,
        Difference(DifferenceKind.OTHER_REJECT, "FR", "a"): 1,
        Difference(DifferenceKind.OTHER_REJECT, "FR", "c"): 1,
    }
    assert found.samples[Difference(DifferenceKind.NEW_REJECT, "FR", "y")] == [
        DifferenceSample("raw[0]@1", "final", "refused")
    ]


def test_a_field_that_one_version_lacks_is_held_against_null(compare) -> None:
    found = compare(([final(0)], {}), ([final(0, plan="gold")], {}))
    assert found.samples == {
        Difference(DifferenceKind.CHANGED, "FR", "plan"): [DifferenceSample("raw[0]@0", "", "gold")]
    }
    found = compare(([final(0, plan="gold")], {}), ([final(0)], {}))
    assert found.samples == {
        Difference(DifferenceKind.CHANGED, "FR", "plan"): [DifferenceSample("raw[0]@0", "gold", "")]
    }


def test_records_of_one_side_only_are_counted_and_samples_are_few(compare) -> None:
    found = compare(([final(n) for n in range(9)], {}), ([final(n, rat="2G") for n in range(1, 9)], {}), samples=2)
    assert (found.records, found.unmatched) == (8, 1)
    assert not found.is_equal
    assert [len(samples) for samples in found.samples.values()] == [2]


def test_replays_without_a_record_are_equal(compare) -> None:
    assert compare(([], {}), ([], {})).is_equal


def test_fields_of_ones_own_stages_are_compared_one_by_one_and_masked(compare) -> None:
    old, new = {"score": 0.5, "twin": "208011234567890"}, {"score": 0.25, "twin": "208019999999999"}
    found = compare(([final(0, tag=old), final(1, tag=old)], {}), ([final(0, tag=new), final(1, tag=None)], {}))
    assert dict(found.counts) == {
        Difference(DifferenceKind.CHANGED, "FR", "tag.score"): 2,
        Difference(DifferenceKind.CHANGED, "FR", "tag.twin"): 2,
    }
    assert found.samples[Difference(DifferenceKind.CHANGED, "FR", "tag.score")][0] == ("raw[0]@0", "0.5", "0.25")
    assert "208011234567890" not in str(found.samples)


def test_a_stage_that_only_one_version_has_is_held_against_null(compare) -> None:
    found = compare(([final(0)], {}), ([final(0, tag={"score": 0.25})], {}))
    assert dict(found.counts) == {Difference(DifferenceKind.CHANGED, "FR", "tag.score"): 1}
