"""The graph of a job, as people and tools read it. It comes from the Beam pipeline itself, so it cannot go stale."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pipeline import AppliedPTransform
from pydantic import BaseModel

from orion_beam.config import FileSink, JobConfig
from orion_beam.defaults import ValueFormat
from orion_beam.io.files import ReadFiles, WriteAvroFile
from orion_beam.io.kafka_sink import ProduceDeadLetters, ProduceMessages
from orion_beam.io.kafka_source import ReadFrames
from orion_beam.io.offset_range_source import ReadKafkaRanges
from orion_beam.io.parquet import WriteParquet
from orion_beam.io.read import ReadStage
from orion_beam.io.write import PublishStage, WriteCdrs
from orion_beam.pipeline import build_pipeline
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.dead_letter import DeadLetter
from orion_beam.schemas.derive import avro_schema
from orion_beam.sequence_gaps import GAP_FILE, ReportSequenceGaps
from orion_beam.telemetry.masking import shown
from orion_beam.transforms.decoders.registry import formats_of
from orion_beam.transforms.stage.split import DEAD_LETTER_TAG, StageTransform
from orion_beam.transforms.stage.stage_decoding import STAGE_MODELS

__all__ = ["Edge", "JobGraph", "Endpoint", "Step", "job_graph"]

_VALUES = {
    ValueFormat.SINGLE_OBJECT: "Avro single-object encoding",
    ValueFormat.CONFLUENT: "Avro in Confluent's wire format",
    ValueFormat.JSON: "JSON",
}
_CONTAINER = "Avro container file"
_ORIGINAL = "the original key and value; the reasons are in headers orion.error.…"


@dataclass(frozen=True)
class Endpoint:
    """A topic or file that the job reads or writes.

    Attributes:
        kind: `topic` or `file`.
        name: Name of the topic, or path of the file.
        use: `read` or `written`.
        schema: Name of the Avro record, or the raw formats of a country.
        values: Encoding of the values.
    """

    kind: str
    name: str
    use: str
    schema: str
    values: str


@dataclass(frozen=True)
class Step:
    """A labelled step of the pipeline.

    Attributes:
        name: Its label in Beam and Flink.
        stage: Stage in whose name it rejects records; None if it rejects none.
        reads: Names of the topics or files that it reads.
        writes: Names of the topics or files that it writes.
    """

    name: str
    stage: str | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Edge:
    """Batches that flow from one step to another. `rejects`: they are dead letters."""

    source: str
    target: str
    rejects: bool


@dataclass(frozen=True)
class JobGraph:
    """Steps in their order, the edges between them, and the topics and files of the job."""

    countries: tuple[str, ...]
    steps: tuple[Step, ...]
    edges: tuple[Edge, ...]
    endpoints: tuple[Endpoint, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return asdict(self)

    def as_dot(self) -> str:
        """Return the graph in Graphviz's language."""
        lines = ["digraph job {", "  rankdir=LR;", "  node [shape=box];"]
        lines += [f"  {_quoted(step.name)};" for step in self.steps]
        for endpoint in self.endpoints:
            shape = "cylinder" if endpoint.kind == "topic" else "note"
            label = f"{endpoint.name}\n{endpoint.schema}"
            lines.append(f"  {_quoted(_endpoint_id(endpoint.name))} [shape={shape}, label={_quoted(label)}];")
        for edge in self.edges:
            style = " [style=dashed]" if edge.rejects else ""
            lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)}{style};")
        for step in self.steps:
            lines += [f"  {_quoted(_endpoint_id(name))} -> {_quoted(step.name)};" for name in step.reads]
            lines += [f"  {_quoted(step.name)} -> {_quoted(_endpoint_id(name))};" for name in step.writes]
        return "\n".join([*lines, "}"])


def job_graph(config: JobConfig, value_format: ValueFormat = ValueFormat.SINGLE_OBJECT) -> JobGraph:
    """Build a job's pipeline, without running it, and return its graph.

    Args:
        config: The job. A Kafka source without an expansion service needs no Java.
        value_format: How the job writes the values on its CDR topic.
    """
    pipeline = beam.Pipeline()
    # Beam makes this directory at once, and removes it at the end of a run.
    shutil.rmtree(pipeline.local_tempdir)
    build_pipeline(pipeline, config)
    steps: list[Step] = []
    edges: list[Edge] = []
    endpoints: list[Endpoint] = []
    makers: dict[int, tuple[str, bool]] = {}
    for part in pipeline._root_transform().parts:
        found = list(_endpoints_of(part, config, value_format))
        endpoints += found
        steps.append(
            Step(
                part.full_label,
                _stage_of(part),
                tuple(endpoint.name for endpoint in found if endpoint.use == "read"),
                tuple(endpoint.name for endpoint in found if endpoint.use == "written"),
            )
        )
        taken = [makers[id(each)] for each in part.inputs if id(each) in makers]
        edges += [Edge(maker, part.full_label, rejects) for maker, rejects in taken]
        gets_rejects_only = bool(taken) and all(rejects for _, rejects in taken)
        for made in part.outputs.values():
            makers[id(made)] = (part.full_label, gets_rejects_only or made.tag == DEAD_LETTER_TAG)
    return JobGraph(tuple(config.countries), tuple(steps), tuple(edges), tuple(dict.fromkeys(endpoints)))


def _stage_of(part: AppliedPTransform) -> str | None:
    if not any(made.tag == DEAD_LETTER_TAG for made in part.outputs.values()):
        return None
    stages = (node.transform.named for node in _within(part) if isinstance(node.transform, StageTransform))
    return str(next(stages, getattr(part.transform, "stage", None)))


def _endpoints_of(part: AppliedPTransform, config: JobConfig, value_format: ValueFormat) -> Iterator[Endpoint]:
    """Yield the topics and files of a step and of the transforms within it."""
    step = part.transform
    if isinstance(step, PublishStage | ReadStage):
        schema, values = _name_of(STAGE_MODELS[step.stage]), _VALUES[ValueFormat.SINGLE_OBJECT]
    else:
        schema, values = _final_schema(config), _VALUES[value_format]
    for inner in (node.transform for node in _within(part)):
        match inner:
            case ReadFrames() if isinstance(step, ReadStage):
                yield Endpoint("topic", inner.topic, "read", schema, values)
            case ReadFrames():
                (code,) = (code for code, profile in config.profiles.items() if profile.topic == inner.topic)
                yield Endpoint("topic", inner.topic, "read", *_raw(config, code))
            case ReadFiles():
                for code, path in inner.source.inputs:
                    yield Endpoint("file", shown(path), "read", *_raw(config, code))
            case ProduceMessages():
                yield Endpoint("topic", inner.topic, "written", schema, values)
            case ProduceDeadLetters():
                yield Endpoint("topic", inner.topic, "written", _name_of(DeadLetter), _ORIGINAL)
            case ReadKafkaRanges():
                for topic, code in inner.countries.items():
                    yield Endpoint("topic", topic, "read", *_raw(config, code))
            case WriteParquet():
                record = _final_schema(config) if isinstance(step, WriteCdrs) else _name_of(DeadLetter)
                yield Endpoint("file", shown(inner.directory), "written", record, "Parquet files")
            case ReportSequenceGaps() if isinstance(inner.sink, FileSink):
                yield Endpoint("file", shown(inner.sink.directory / GAP_FILE), "written", "SequenceGap", "JSON lines")
            case WriteAvroFile():
                record = _final_schema(config) if isinstance(step, WriteCdrs) else _name_of(DeadLetter)
                yield Endpoint("file", shown(inner.path), "written", record, _CONTAINER)


def _within(part: AppliedPTransform) -> Iterator[AppliedPTransform]:
    yield part
    for inner in part.parts:
        yield from _within(inner)


def _raw(config: JobConfig, code: str) -> tuple[str, str]:
    formats = ", ".join(each.name for each in formats_of(config.profiles[code]))
    return f"raw CDRs of {code}", f"one of: {formats}"


def _final_schema(config: JobConfig) -> str:
    blocks = [name for name in config.final_model.model_fields if name not in UnifiedCdr.model_fields]
    return _name_of(UnifiedCdr) + (f" with fields of {', '.join(blocks)}" if blocks else "")


def _name_of(model: type[BaseModel]) -> str:
    schema: Mapping[str, str] = json.loads(avro_schema(model))
    return f"{schema['namespace']}.{schema['name']}"


def _endpoint_id(name: str) -> str:
    """Return an id that no step has. Steps and endpoints share Graphviz's names."""
    return f"endpoint:{name}"


def _quoted(text: str) -> str:
    """Return text as a string of Graphviz's language."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
