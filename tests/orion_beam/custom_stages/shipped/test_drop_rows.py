"""Which rows `drop_rows` drops, and that wrong conditions are refused before the job starts."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from orion_beam.custom_stages.code import load_stage
from orion_beam.custom_stages.shipped.drop_rows import DropRows
from orion_beam.errors import UserError
from orion_beam.job_file.stage_declaration import StageDeclaration
from orion_beam.schemas.cdr import ENRICHED_SCHEMA
from orion_beam.testing import batch_after, raw_batch, run_own_stage
from orion_beam.transforms.stage.batches import batch_of, columns_of


def declared(*where: dict, after: str = "enrich") -> StageDeclaration:
    return StageDeclaration(name="no_tests", run="drop_rows", after=after, options={"where": list(where)})


@pytest.fixture(scope="module")
def batch() -> pa.RecordBatch:
    lines = [b"208011234567890;33612345678;;;;1;2;1780308000"] * 4
    enriched = batch_after("enrich", raw_batch("FR", lines, timestamps=datetime(2026, 6, 5, tzinfo=UTC)))
    values = {
        "imsi": ["001011234567890", "208011234567890", "999991234567890", "208021234567890"],
        "bytes_up": [1, None, 100, 7],
        "event_time": [datetime(2026, 6, day, tzinfo=UTC) for day in (1, 2, 3, 4)],
        "warnings": [["test_imsi"], [], ["late", "test_imsi"], ["late"]],
        "is_roaming": [True, False, False, True],
    }
    columns = columns_of(enriched)
    columns |= {name: pa.array(value, columns[name].type) for name, value in values.items()}
    return batch_of(columns, ENRICHED_SCHEMA)


@pytest.mark.parametrize(
    ("where", "dropped"),
    [
        ([{"field": "imsi", "operator": "starts_with", "values": ["00101", "99999"]}], [0, 2]),
        ([{"field": "imsi", "values": ["208011234567890"]}], [1]),
        ([{"field": "bytes_up", "operator": "not_in", "values": [7]}], [0, 2]),
        ([{"field": "bytes_up", "operator": "less", "values": [7]}], [0]),
        ([{"field": "bytes_up", "operator": "at_most", "values": [7]}], [0, 3]),
        ([{"field": "bytes_up", "operator": "at_least", "values": [7]}], [2, 3]),
        ([{"field": "bytes_up", "operator": "greater", "values": [7]}], [2]),
        ([{"field": "bytes_up", "operator": "is_null"}], [1]),
        ([{"field": "bytes_up", "operator": "not_null"}], [0, 2, 3]),
        ([{"field": "warnings", "values": ["test_imsi"]}], [0, 2]),
        ([{"field": "is_roaming", "values": [True]}], [0, 3]),
        ([{"field": "event_time", "operator": "less", "values": ["2026-06-02T02:00+02:00"]}], [0]),
        (
            [
                {"field": "is_roaming", "values": [True]},
                {"field": "warnings", "values": ["late"]},
            ],
            [3],
        ),
        ([{"field": "segment", "values": ["vip"]}], []),
    ],
)
def test_rows_that_meet_all_conditions_are_dead_letters(batch, where, dropped):
    outcome = run_own_stage(DropRows, batch, options={"where": where}, name="no_tests")
    assert [letter["source_offset"] for letter in outcome.dead_letters] == dropped
    assert {letter["code"] for letter in outcome.dead_letters} <= {"no_tests.dropped"}
    assert [row["source_offset"] for row in outcome.accepted] == [n for n in range(4) if n not in dropped]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"field": "ismi", "values": ["x"]}, r"options\.where\.0\.field: ismi is no field after enrich"),
        ({"field": "imsi", "operator": "like", "values": ["x"]}, r"options\.where\.0\.operator: Input should be 'in'"),
        ({"field": "imsi"}, r"options\.where\.0\.values: in takes one or more values"),
        ({"field": "imsi", "operator": "less", "values": ["1", "2"]}, r"options\.where\.0\.values: less takes 1"),
        ({"field": "imsi", "operator": "is_null", "values": ["1"]}, r"options\.where\.0\.values: is_null takes 0"),
        ({"field": "bytes_up", "values": ["many"]}, r"options\.where\.0: bytes_up in \['many'\]"),
        ({"field": "bytes_up", "values": [10**30]}, r"options\.where\.0: bytes_up in"),
        ({"field": "bytes_up", "operator": "starts_with", "values": ["1"]}, r"options\.where\.0: bytes_up starts_with"),
        (
            {"field": "event_time", "operator": "less", "values": ["2026-01-01"]},
            r"options\.where\.0: event_time less .*: a time needs an offset",
        ),
    ],
)
def test_wrong_conditions_are_refused(where, message):
    with pytest.raises(UserError, match=f"stage no_tests: {message}"):
        load_stage(declared(where))


def test_a_field_of_a_later_stage_is_refused():
    with pytest.raises(UserError, match="segment is no field after validate"):
        load_stage(declared({"field": "segment", "values": ["vip"]}, after="validate"))
