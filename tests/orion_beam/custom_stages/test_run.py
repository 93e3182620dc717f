"""A stage of the user's own in the chain: what it may do, and what becomes of a row if it does something else."""

import logging
import signal
import sys
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from prometheus_client import CollectorRegistry

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import all_profiles
from orion_beam.custom_stages import Reject, SplitBatch, split
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.custom_stages.run import RunCustomStage, checked
from orion_beam.schemas.codes import Stage
from orion_beam.telemetry.worker_metrics import WorkerMetrics
from orion_beam.testing import raw_batch, rows, run_stage
from orion_beam.transforms.stage.batches import batch_of, columns_of
from orion_beam.transforms.stage.exceptions import BrokenContractError
from orion_beam.transforms.stage.observing import observe
from orion_beam.transforms.stage.rejects import no_rejects
from orion_beam.transforms.stage.split import MAX_BUGS, StageFailedError, split_isolating

ARRIVED = datetime(2026, 6, 2, tzinfo=UTC)
STAGE = JobStage(
    name="tag", run="tests:tag", after=Stage.ENRICH, codes={"odd": "the offset is odd", "third": "every third"},
    fields=[{"name": "vip", "type": "boolean"}, {"name": "score", "type": "double"}],
)  # fmt: skip


@pytest.fixture(scope="module")
def batch() -> pa.RecordBatch:
    lines = [f"20801123456789{n % 10};33612345678;;;;1;2;1780308000".encode() for n in range(40)]
    chain = chain_of(all_profiles()["FR"], load_reference())
    return run_chain(chain, raw_batch("FR", lines, timestamps=ARRIVED)).accepted


def with_fields(batch: pa.RecordBatch) -> pa.RecordBatch:
    count = batch.num_rows
    return batch.append_column("vip", pa.array([True] * count)).append_column("score", pa.array([0.5] * count))


def is_odd(batch: pa.RecordBatch) -> pa.BooleanArray:
    return pc.equal(pc.bit_wise_and(batch.column("source_offset"), 1), 1)


def outcome_of(function, batch, stage=STAGE) -> SplitBatch:
    return split_isolating(checked(function, stage), batch, stage.name)


def test_fields_are_columns_of_the_stage_behind_all_others(batch):
    accepted = outcome_of(lambda rows: split(with_fields(rows)), batch).accepted
    assert accepted.schema.names == [*batch.schema.names, "tag.vip", "tag.score"]
    assert accepted.column("tag.score").to_pylist() == [0.5] * 40


def test_rejected_rows_have_the_stages_name_and_codes_and_the_original_message(batch):
    def run(rows: pa.RecordBatch) -> SplitBatch:
        is_third = [offset % 3 == 0 for offset in rows.column("source_offset").to_pylist()]
        changed = with_fields(rows).drop_columns(["raw_value"]).append_column("raw_value", pa.array([b"?"] * len(rows)))
        return split(changed, Reject("odd", "imsi", is_odd(rows)), Reject("third", "value", is_third))

    outcome = outcome_of(run, batch)
    letters = rows(outcome.rejected)
    assert [letter["source_offset"] for letter in letters] == [n for n in range(40) if n % 2 or n % 3 == 0]
    by_offset = {letter["source_offset"]: letter for letter in letters}
    assert by_offset[0]["codes"] == ["tag.third"]
    assert by_offset[3]["codes"] == ["tag.odd", "tag.third"]
    assert by_offset[3]["fields"] == ["imsi", "value"]
    assert (by_offset[3]["stage"], by_offset[3]["code"]) == ("tag", "tag.odd")
    assert by_offset[3]["message"] == "imsi: tag.odd: the offset is odd; value: tag.third: every third"
    for letter in letters:
        assert letter["value"] == b"20801123456789%d;33612345678;;;;1;2;1780308000" % (letter["source_offset"] % 10)
    assert [row["raw_value"] for row in rows(outcome.accepted)] == [
        row["raw_value"] for row in rows(batch) if row["source_offset"] % 2 == 0 and row["source_offset"] % 3
    ]


def test_a_bug_costs_only_its_rows(batch, caplog):
    def run(rows: pa.RecordBatch) -> SplitBatch:
        if 7 in rows.column("source_offset").to_pylist():
            raise ValueError(f"cannot read {rows.column('imsi')[0]}")
        return split(with_fields(rows))

    with caplog.at_level(logging.DEBUG):
        outcome = outcome_of(run, batch)
    assert outcome.accepted.num_rows == 39
    (letter,) = rows(outcome.rejected)
    assert (letter["stage"], letter["codes"], letter["source_offset"]) == ("tag", ["tag.internal_error"], 7)
    assert letter["message"] == "value: tag.internal_error: a bug of the stage tag: the record is kept, the job goes on"
    assert "internal_error in stage tag, ValueError at test_run.py:" in caplog.text
    assert "208011" not in caplog.text


def without(batch: pa.RecordBatch, place: int) -> pa.RecordBatch:
    return pa.Table.from_batches([batch.slice(0, place), batch.slice(place + 1)]).combine_chunks().to_batches()[0]


def changed(batch: pa.RecordBatch, **columns: object) -> pa.RecordBatch:
    arrays = columns_of(batch) | columns
    return batch_of(arrays, pa.schema([(name, array.type) for name, array in arrays.items()]))


BREACHES = {
    "rows came out as": lambda rows: SplitBatch(with_fields(rows).slice(1), no_rejects()),
    "each once, in order": lambda rows: split(with_fields(rows).take(pa.array(range(len(rows))[::-1]))),
    "returns a RecordBatch where a SplitBatch": lambda rows: rows,
    "lack the column score": lambda rows: split(with_fields(rows).drop_columns(["score"])),
    "lack the column imsi": lambda rows: split(with_fields(rows).drop_columns(["imsi"])),
    "the column other is new": lambda rows: split(with_fields(rows).append_column("other", rows.column("imsi"))),
    "the column score has type string": lambda rows: split(changed(with_fields(rows), score=rows.column("imsi"))),
    "the column imsi holds a null": lambda rows: split(
        changed(with_fields(rows), imsi=pa.nulls(len(rows), pa.string()))
    ),
    "the code nosuch is new": lambda rows: split(with_fields(rows), Reject("nosuch", "value", [True] * len(rows))),
    "it raises SystemExit": lambda _: sys.exit(3),
    "the field of a reject is no name": lambda rows: split(
        with_fields(rows), Reject("odd", rows.column("imsi")[0].as_py(), [True] * len(rows))
    ),
    "are not as many as those of the batch": lambda rows: split(with_fields(rows), Reject("odd", "imsi", [])),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_of_the_contract_says_what_is_wrong_and_loses_no_row(breach, batch, caplog):
    rows_of_batch = batch.slice(0, 4)
    with pytest.raises(BrokenContractError, match=breach):
        checked(BREACHES[breach], STAGE)(rows_of_batch)
    outcome = outcome_of(BREACHES[breach], rows_of_batch)
    kept = [*rows(outcome.accepted), *rows(outcome.rejected)]
    assert sorted(row["source_offset"] for row in kept) == [0, 1, 2, 3]
    # Single rows are always in order.
    if breach != "each once, in order":
        assert {row["code"] for row in kept} == {"tag.internal_error"}
        assert "internal_error in stage tag, BrokenContractError: " in caplog.text


@pytest.mark.parametrize("column", ["source_topic", "source_partition", "source_offset"])
def test_a_stage_that_changes_the_place_of_a_row_breaks_its_contract(column, batch):
    def run(rows: pa.RecordBatch) -> SplitBatch:
        other = pa.array(["7"] * len(rows)).cast(rows.schema.field(column).type)
        return split(changed(with_fields(rows), **{column: other}))

    with pytest.raises(BrokenContractError, match="not those of the input, each once, in order"):
        checked(run, STAGE)(batch)


def test_values_are_not_checked_as_the_guide_says(batch):
    def run(rows: pa.RecordBatch) -> SplitBatch:
        imsi = pa.array(["2080112345678X"] * len(rows))
        return split(changed(with_fields(rows), imsi=imsi, event_time=rows.column("event_time").take([1, 0])))

    accepted = checked(run, STAGE)(batch.slice(0, 2)).accepted
    assert accepted.column("imsi").to_pylist() == ["2080112345678X"] * 2


def test_rows_of_two_partitions_with_the_same_offsets_are_not_exchanged(batch):
    def run(rows: pa.RecordBatch) -> SplitBatch:
        return split(with_fields(rows.take(pa.array([1, 0]))))

    two = changed(batch.slice(0, 2), source_partition=pa.array([0, 1], pa.int32()), source_offset=pa.array([5, 5]))
    with pytest.raises(BrokenContractError, match="not those of the input, each once, in order"):
        checked(run, STAGE)(two)


def test_a_signal_that_ends_the_process_is_no_bug_of_a_stage(batch):
    with pytest.raises(SystemExit):
        checked(lambda _: sys.exit(128 + signal.SIGTERM), STAGE)(batch)


def test_text_that_no_reader_could_read_is_a_breach(batch):
    stage = JobStage(**dict(STAGE) | {"fields": [{"name": "note", "type": "string"}]})
    broken = pa.array([b"\xff"] * len(batch), pa.binary()).view(pa.string())
    with pytest.raises(BrokenContractError, match="a field of the stage holds text that is not UTF-8"):
        checked(lambda rows: split(rows.append_column("note", broken)), stage)(batch)


def test_rows_taken_for_others_are_found(batch):
    def run(rows: pa.RecordBatch) -> SplitBatch:
        # One row twice, another one not at all.
        twice = pa.Table.from_batches([rows.slice(0, 1), without(rows, 1)]).combine_chunks().to_batches()[0]
        return split(with_fields(twice)) if len(rows) > 2 else split(with_fields(rows))

    outcome = outcome_of(run, batch.slice(0, 8))
    assert [row["source_offset"] for row in rows(outcome.accepted)] == list(range(8))


def test_columns_of_polars_are_taken(batch):
    def run(rows: pa.RecordBatch) -> SplitBatch:
        return split(changed(with_fields(rows), imsi=rows.column("imsi").cast(pa.large_string())))

    assert outcome_of(run, batch).accepted.schema.field("imsi").type == pa.string()


def write(directory, code: str) -> JobStage:
    return JobStage(name="tag", run="tag", path=f"{directory}/tag.py", source=code, after=Stage.ENRICH)


def test_a_stage_that_fails_for_everything_stops_the_job(batch, tmp_path):
    failing = RunCustomStage(write(tmp_path, "def tag(batch):\n    raise KeyError(batch['imsi'][0].as_py())\n"))
    with pytest.raises(StageFailedError) as failed:
        run_stage(failing, [batch])
    text = str(failed.value)
    assert text.startswith("stage tag fails for row after row with KeyError at tag.py:2: this is a bug of that stage")
    assert "208011" not in text
    assert batch.num_rows > MAX_BUGS


def test_a_stage_that_fails_for_rows_together_only_is_warned_of_once(batch, caplog):
    def tag_together(rows: pa.RecordBatch) -> SplitBatch:
        return split(with_fields(rows).take(pa.array(range(len(rows))[::-1])))

    for _ in range(2):
        outcome = split_isolating(checked(tag_together, STAGE), batch, "tag_together")
        assert outcome.accepted.num_rows == 40
    warnings = [record for record in caplog.records if "fails for rows together" in record.getMessage()]
    assert len(warnings) == 1


def test_metrics_have_the_stages_name(batch, tmp_path):
    registry = CollectorRegistry()
    observe(WorkerMetrics(registry))
    code = (
        "from orion_beam.custom_stages import Reject, custom_stage, split\n"
        "@custom_stage(codes={'first': 'it is the first'})\n"
        "def tag(batch):\n"
        "    return split(batch, Reject('first', 'value', [n == 0 for n in batch['source_offset'].to_pylist()]))\n"
    )
    try:
        run_stage(RunCustomStage(write(tmp_path, code).model_copy(update={"codes": {"first": "it is"}})), [batch])
    finally:
        observe(None)
    labels = {"stage": "tag", "country": "FR"}
    assert registry.get_sample_value("orion_records_in_total", labels) == 40
    assert registry.get_sample_value("orion_records_accepted_total", labels) == 39
    assert registry.get_sample_value("orion_records_rejected_total", labels | {"code": "tag.first"}) == 1
