"""The report as an OpenLineage event: what its specification demands, and the offsets of a run over topics."""

import json
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition
from orion_beam.telemetry.run_report import RunReport, input_topic, output_topic


def report_of(run_id: str, **datasets: Any) -> RunReport:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return RunReport(
        job="replay",
        run_id=run_id,
        started=now,
        ended=now,
        inputs=datasets.get("inputs", []),
        outputs=datasets.get("outputs", []),
        counts={"final": 2},
        reference_version="a/b",
    )


@pytest.fixture
def of_topics() -> RunReport:
    offsets = {
        SourcePartition("cdr.raw.FR", 0): OffsetRange(100, 200),
        SourcePartition("cdr.raw.FR", 3): OffsetRange(7, 9),
        SourcePartition("cdr.raw.TN", 0): OffsetRange(1, 2),
    }
    read = input_topic("a:9092,b:9092", "cdr.raw.FR", offsets)
    return report_of("replay-1", inputs=[read], outputs=[output_topic("a:9092", "cdr.final", rows=2)])


def test_it_has_what_the_specification_demands(of_topics: RunReport) -> None:
    event = of_topics.as_json()
    # OpenLineage.json, RunEvent and BaseFacet: "required".
    assert {"eventTime", "producer", "schemaURL", "run", "job"} <= event.keys()
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    facets = [*event["run"]["facets"].values()]
    for dataset in (*event["inputs"], *event["outputs"]):
        assert {"namespace", "name"} <= dataset.keys()
        facets += [*dataset["facets"].values(), *dataset.get("outputFacets", {}).values()]
    assert len(facets) >= 5
    assert all({"_producer", "_schemaURL"} <= facet.keys() for facet in facets)
    # "The JSON Pointer URL to the corresponding version of the schema definition": a pointer into the schema's file.
    urls = [facet["_schemaURL"] for facet in facets]
    assert [url for url in urls if not re.search(r"^urn:orion-beam:facet:\w+:1$|\.json#/\$defs/\w+$", url)] == []


def test_a_topic_is_named_by_its_broker_and_says_which_offsets_were_read(of_topics: RunReport) -> None:
    event = of_topics.as_json()
    (read,), (written,) = event["inputs"], event["outputs"]
    assert (read["namespace"], read["name"]) == ("kafka://a:9092", "cdr.raw.FR")
    assert read["facets"]["orion_offsets"]["offsets"] == {"0": [100, 200], "3": [7, 9]}
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 2


def test_a_run_has_one_uuid_whatever_it_is_called() -> None:
    given = str(uuid.uuid4())
    ids = [report_of(name).as_json()["run"]["runId"] for name in (given, "replay-1", "replay-1", "replay-2")]
    assert ids[0] == given
    assert ids[1] == ids[2] != ids[3]
    assert [str(uuid.UUID(each)) for each in ids] == ids


def test_the_file_is_whole_or_not_there(tmp_path: Path, of_topics: RunReport) -> None:
    of_topics.write(tmp_path / "run-report.json")
    assert [path.name for path in tmp_path.iterdir()] == ["run-report.json"]
    assert json.loads((tmp_path / "run-report.json").read_text()) == of_topics.as_json()
