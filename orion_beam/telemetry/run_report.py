"""Report that a bounded run leaves beside its output: an OpenLineage run event of type COMPLETE.

Datasets, runs and jobs are named as OpenLineage names them, so that its tools can read the file. Facets of our own
hold what OpenLineage has none for (counts by country and code, versions, offsets); docs/operate/logs.md describes them.
"""

import hashlib
import json
import platform
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import apache_beam as beam
import pyarrow as pa
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState, set_producer
from openlineage.client.facet_v2 import (
    BaseFacet,
    DatasetFacet,
    RunFacet,
    dataset_version_dataset,
    output_statistics_output_dataset,
    processing_engine_run,
    schema_dataset,
)
from openlineage.client.serde import Serde

from orion_beam import __version__
from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition
from orion_beam.telemetry.masking import shown

REPORT_FILE = "run-report.json"

set_producer(f"urn:orion-beam:{__version__}")

_Facet = TypeVar("_Facet", bound=BaseFacet)


def _own_facet(kind: type[_Facet], name: str, **fields: Any) -> _Facet:
    facet = kind().with_additional_properties(**fields)
    assert isinstance(facet, kind)
    facet._schemaURL = f"urn:orion-beam:facet:{name}:1"
    return facet


def input_file(path: Path) -> InputDataset:
    """Describe a file that was read; a pipe only by its name, because it can be read only once."""
    if not path.is_file():
        return InputDataset("file", shown(path))
    return InputDataset("file", shown(path.absolute()), facets=_content(path))


def output_file(path: Path, rows: int, schema: pa.Schema) -> OutputDataset:
    """Describe a file to which the run wrote `rows` records of a schema."""
    fields = [schema_dataset.SchemaDatasetFacetFields(name=field.name, type=str(field.type)) for field in schema]
    facets = _content(path) | {"schema": schema_dataset.SchemaDatasetFacet(fields=fields)}
    return _written("file", shown(path.absolute()), rows, path.stat().st_size, facets)


def output_directory(path: Path, rows: int) -> OutputDataset:
    """Describe a directory of files of one kind to which the run wrote `rows` records."""
    return _written("file", shown(path.absolute()), rows)


def input_topic(bootstrap_servers: str, topic: str, offsets: Mapping[SourcePartition, OffsetRange]) -> InputDataset:
    """Describe a topic from which the run read exactly these offsets."""
    ranges = {str(part.partition): [within.low, within.high] for part, within in offsets.items() if part.topic == topic}
    facets = {"orion_offsets": _own_facet(DatasetFacet, "offsets", offsets=ranges)}
    return InputDataset(_cluster(bootstrap_servers), topic, facets=facets)


def output_topic(bootstrap_servers: str, topic: str, rows: int) -> OutputDataset:
    """Describe a topic to which the run wrote `rows` records."""
    return _written(_cluster(bootstrap_servers), topic, rows)


def _content(path: Path) -> dict[str, DatasetFacet]:
    """Describe the content of a file as it is now, with its SHA-256 as its version."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=digest),
        "orion_file": _own_facet(DatasetFacet, "file", size=path.stat().st_size),
    }


def _written(
    namespace: str, name: str, rows: int, size: int | None = None, facets: dict[str, DatasetFacet] | None = None
) -> OutputDataset:
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows, size=size)
    return OutputDataset(namespace, name, facets=facets or {}, outputFacets={"outputStatistics": statistics})


def _cluster(bootstrap_servers: str) -> str:
    return f"kafka://{bootstrap_servers.partition(',')[0]}"


@dataclass(frozen=True)
class RunReport:
    """What a bounded run did.

    Attributes:
        job: What ran, such as `run` or `replay`.
        run_id: A UUID, or a name from which a UUID is made (the same for the same name).
        started: When the run began.
        ended: When everything was written.
        inputs: Datasets that were read.
        outputs: Datasets that were written.
        counts: Counts of the output, as `orion-beam run --json` prints them.
        reference_version: Version of cells and subscribers.
    """

    job: str
    run_id: str
    started: datetime
    ended: datetime
    inputs: Sequence[InputDataset]
    outputs: Sequence[OutputDataset]
    counts: Mapping[str, Any]
    reference_version: str

    def as_json(self) -> dict[str, Any]:
        """Return the report as an OpenLineage run event."""
        run = _own_facet(
            RunFacet,
            "run",
            runId=self.run_id,
            startedAt=self.started.isoformat(),
            endedAt=self.ended.isoformat(),
            referenceVersion=self.reference_version,
            versions={"orion-beam": __version__, "python": platform.python_version()},
        )
        facets = {
            "processing_engine": processing_engine_run.ProcessingEngineRunFacet(beam.__version__, "Apache Beam"),
            "orion_run": run,
            "orion_counts": _own_facet(RunFacet, "counts", **self.counts),
        }
        event = RunEvent(
            eventType=RunState.COMPLETE,
            eventTime=self.ended.isoformat(),
            run=Run(_uuid_of(self.run_id), facets),
            job=Job("orion-beam", self.job),
            inputs=list(self.inputs),
            outputs=list(self.outputs),
        )
        return Serde.to_dict(event)

    def write(self, path: Path) -> None:
        """Write the report to a file, which is complete or does not exist."""
        partial = path.with_name(f".{path.name}.part")
        try:
            partial.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink()
            raise


def _uuid_of(name: str) -> str:
    try:
        return str(uuid.UUID(name))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:orion-beam:run:{name}"))
