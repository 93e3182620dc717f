"""Report that a bounded run leaves beside its output: an OpenLineage run event of type COMPLETE.

Datasets, runs and jobs are named as OpenLineage names them, so that its tools can read the file. Facets of our own
hold what OpenLineage has none for (counts by country and code, versions, offsets); docs/operate/logs.md describes them.
"""

import hashlib
import json
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import apache_beam as beam
import pyarrow as pa

from orion_beam import __version__
from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition
from orion_beam.telemetry.masking import shown

REPORT_FILE = "run-report.json"

_PRODUCER = f"urn:orion-beam:{__version__}"
_SPEC = "https://openlineage.io/spec"
_NAMESPACE = "orion-beam"

Json = dict[str, Any]


def _facet(schema: str, **fields: Any) -> Json:
    return {"_producer": _PRODUCER, "_schemaURL": schema, **fields}


def _own_facet(name: str, **fields: Any) -> Json:
    return _facet(f"urn:orion-beam:facet:{name}:1", **fields)


@dataclass(frozen=True)
class Dataset:
    """A dataset that was read or written.

    Attributes:
        namespace: `file`, or `kafka://host:port` of the first broker.
        name: The path or the topic.
        facets: Facets of OpenLineage and of ours that describe the dataset.
        output_facets: Facets that tell what the run wrote to it.
    """

    namespace: str
    name: str
    facets: Mapping[str, Json]
    output_facets: Mapping[str, Json]

    @classmethod
    def of_input(cls, path: Path) -> Self:
        """Describe a file that was read; a pipe only by its name, because it can be read only once."""
        return cls.of_file(path) if path.is_file() else cls("file", shown(path), {}, {})

    @classmethod
    def of_file(cls, path: Path, rows: int | None = None, schema: pa.Schema | None = None) -> Self:
        """Describe a file as it is now, with its SHA-256 as its version.

        Args:
            path: The file.
            rows: Number of records that the run wrote to it. None: the run read it.
            schema: Schema of its records, if they have one.
        """
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        facets = {
            "version": _facet(f"{_SPEC}/facets/1-0-0/DatasetVersionDatasetFacet.json", datasetVersion=digest),
            "orion_file": _own_facet("file", size=size),
        }
        if schema is not None:
            fields = [{"name": field.name, "type": str(field.type)} for field in schema]
            facets["schema"] = _facet(f"{_SPEC}/facets/1-0-0/SchemaDatasetFacet.json", fields=fields)
        written = {} if rows is None else {"outputStatistics": _statistics(rows, size)}
        return cls("file", shown(path.absolute()), facets, written)

    @classmethod
    def of_directory(cls, path: Path, rows: int) -> Self:
        """Describe a directory of files of one kind to which the run wrote `rows` records."""
        return cls("file", shown(path.absolute()), {}, {"outputStatistics": _statistics(rows)})

    @classmethod
    def of_topic(
        cls, bootstrap_servers: str, topic: str, offsets: Mapping[SourcePartition, OffsetRange], rows: int | None = None
    ) -> Self:
        """Describe a topic from which the run read exactly these offsets, or to which it wrote `rows` records."""
        ranges = {
            str(part.partition): [within.low, within.high] for part, within in offsets.items() if part.topic == topic
        }
        facets = {"orion_offsets": _own_facet("offsets", offsets=ranges)} if ranges else {}
        written = {} if rows is None else {"outputStatistics": _statistics(rows)}
        return cls(f"kafka://{bootstrap_servers.partition(',')[0]}", topic, facets, written)


def _statistics(rows: int, size: int | None = None) -> Json:
    schema = f"{_SPEC}/facets/1-0-0/OutputStatisticsOutputDatasetFacet.json"
    return _facet(schema, rowCount=rows) | ({} if size is None else {"size": size})


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
    inputs: Sequence[Dataset]
    outputs: Sequence[Dataset]
    counts: Mapping[str, Any]
    reference_version: str

    def as_json(self) -> Json:
        """Return the report as an OpenLineage run event."""
        engine = f"{_SPEC}/facets/1-1-0/ProcessingEngineRunFacet.json"
        return {
            "eventType": "COMPLETE",
            "eventTime": self.ended.isoformat(),
            "producer": _PRODUCER,
            "schemaURL": f"{_SPEC}/1-0-2/OpenLineage.json#/$defs/RunEvent",
            "job": {"namespace": _NAMESPACE, "name": self.job},
            "run": {
                "runId": _uuid_of(self.run_id),
                "facets": {
                    "processing_engine": _facet(engine, name="Apache Beam", version=beam.__version__),
                    "orion_run": _own_facet(
                        "run",
                        runId=self.run_id,
                        startedAt=self.started.isoformat(),
                        endedAt=self.ended.isoformat(),
                        referenceVersion=self.reference_version,
                        versions={"orion-beam": __version__, "python": platform.python_version()},
                    ),
                    "orion_counts": _own_facet("counts", **self.counts),
                },
            },
            "inputs": [
                {"namespace": each.namespace, "name": each.name, "facets": dict(each.facets)} for each in self.inputs
            ],
            "outputs": [
                {
                    "namespace": each.namespace,
                    "name": each.name,
                    "facets": dict(each.facets),
                    "outputFacets": dict(each.output_facets),
                }
                for each in self.outputs
            ],
        }

    def write(self, path: Path) -> None:
        """Write the report to a file, which is complete or does not exist."""
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")
        partial.replace(path)


def _uuid_of(name: str) -> str:
    try:
        return str(uuid.UUID(name))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:orion-beam:run:{name}"))
