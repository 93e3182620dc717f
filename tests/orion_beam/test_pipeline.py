"""The graph: every output is used, and every step has a name that says what it does."""

import re
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.pipeline_context import PipelineContext
from pydantic import ValidationError

from orion_beam.config import FileSink, FileSource, JobConfig, KafkaSink, KafkaSource
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.pipeline import build_pipeline
from orion_beam.schemas.codes import Stage
from orion_beam.transforms.stage.batches import RecordBatchCoder


def file_job(**changes: object) -> JobConfig:
    fields = {
        "countries": ("FR", "SN"), "source": FileSource(inputs=(("FR", "fr.csv"), ("SN", "sn.txt"))),
        "sink": FileSink(directory=Path("out")), "wire_prefix": b"",
    }  # fmt: skip
    return JobConfig.model_validate(fields | changes)


class _Nodes(PipelineVisitor):  # type: ignore[misc]
    def __init__(self) -> None:
        self.nodes: list[AppliedPTransform] = []

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        self.nodes.append(transform_node)

    def enter_composite_transform(self, transform_node: AppliedPTransform) -> None:
        self.nodes.append(transform_node)


TOPICS = KafkaSink(bootstrap_servers="localhost:1")


def nodes_of(config: JobConfig) -> list[AppliedPTransform]:
    pipeline = beam.Pipeline()
    build_pipeline(pipeline, config)
    visitor = _Nodes()
    pipeline.visit(visitor)
    return visitor.nodes


@pytest.fixture
def nodes() -> list[AppliedPTransform]:
    return nodes_of(file_job())


def top_level(nodes: list[AppliedPTransform]) -> list[str]:
    return [node.full_label for node in nodes if node.full_label and "/" not in node.full_label]


def test_the_top_level_is_a_table_of_contents(nodes):
    assert top_level(nodes) == [
        "ReadRawCdrs", "DecodeCdrs", "JoinCountries", "ValidateCdrs", "NormalizeCdrs", "EnrichCdrs", "EncodeCdrs",
        "WriteCdrs", "WriteDeadLetters",
    ]  # fmt: skip
    assert top_level(nodes_of(file_job(sink=TOPICS)))[-3:] == ["WriteCdrs", "FlattenDeadLetters", "WriteDeadLetters"]


def test_what_looks_at_several_records_stands_before_enrichment_when_it_is_switched_on():
    switches = dict.fromkeys(("tag_partials", "flag_duplicates", "detect_gaps"), True)
    nodes = nodes_of(file_job(sink=TOPICS, **switches))
    assert top_level(nodes)[4:9] == [
        "NormalizeCdrs", "ReportSequenceGaps", "TagPartials", "FlagDuplicates", "EnrichCdrs",
    ]  # fmt: skip
    (flatten,) = (node for node in nodes if node.full_label == "FlattenDeadLetters")
    assert len(flatten.inputs) == len(Stage) + 2


@pytest.mark.parametrize("switch", ["tag_partials", "flag_duplicates", "detect_gaps"])
def test_a_job_that_starts_behind_them_cannot_switch_them_on(switch):
    source = KafkaSource(bootstrap_servers="localhost:1", group_id="g", expansion_service="localhost:2")
    with pytest.raises(ValidationError, match="are looked for before enrichment: start from normalized"):
        file_job(source=source, start_from=Stage.ENRICH, **{switch: True})


def custom(name: str, after: Stage, **fields: object) -> JobStage:
    return JobStage(name=name, run="orion_beam.testing:rows", after=after, **fields)


def test_stages_of_ones_own_stand_behind_the_topic_of_the_stage_that_they_follow():
    stages = (custom("late", Stage.ENRICH), custom("first", Stage.VALIDATE), custom("second", Stage.VALIDATE))
    sink = KafkaSink(bootstrap_servers="localhost:1")
    labels = top_level(nodes_of(file_job(sink=sink, publish=(Stage.VALIDATE, Stage.ENRICH), stages=stages)))
    assert labels[3:12] == [
        "ValidateCdrs", "Publish cdr.validated", "first", "second", "NormalizeCdrs", "EnrichCdrs",
        "Publish cdr.enriched", "late", "EncodeCdrs",
    ]  # fmt: skip


def from_topic(**changes: object) -> JobConfig:
    source = KafkaSource(bootstrap_servers="localhost:1", group_id="g", expansion_service="localhost:2")
    return file_job(source=source, **changes)


def test_a_job_that_starts_from_a_topic_runs_the_stages_behind_it():
    stages = (custom("early", Stage.VALIDATE), custom("here", Stage.NORMALIZE), custom("late", Stage.ENRICH))
    config = from_topic(start_from=Stage.NORMALIZE, stages=stages)
    assert JobConfig.model_validate_json(config.model_dump_json()).stages == stages
    assert [each.name for stage in Stage for each in config.stages_after(stage)] == ["here", "late"]


def test_fields_that_a_topic_does_not_carry_are_refused():
    stage = custom("early", Stage.VALIDATE, fields=[{"name": "vip", "type": "boolean"}])
    with pytest.raises(ValidationError, match="stage early adds fields after validate, and a job that starts from"):
        from_topic(start_from=Stage.NORMALIZE, stages=(stage,))
    from_topic(start_from=Stage.VALIDATE, stages=(stage,))


def test_two_stages_of_one_name_are_refused():
    with pytest.raises(ValidationError, match="two stages are named early"):
        file_job(stages=(custom("early", Stage.VALIDATE), custom("early", Stage.ENRICH)))


def test_every_stage_hands_its_dead_letters_to_the_write():
    nodes = nodes_of(file_job(sink=TOPICS))
    (flatten,) = (node for node in nodes if node.full_label == "FlattenDeadLetters")
    producers = sorted(collection.producer.full_label.split("/")[0] for collection in flatten.inputs)
    assert producers == sorted(f"{stage.capitalize()}Cdrs" for stage in Stage)
    assert {collection.tag for collection in flatten.inputs} == {"dead_letters"}
    (write,) = (node for node in nodes if node.full_label == "WriteDeadLetters")
    assert [collection.producer.full_label for collection in write.inputs] == ["FlattenDeadLetters"]
    (write,) = (node for node in nodes_of(file_job()) if node.full_label == "WriteDeadLetters")
    assert sorted(collection.producer.full_label.split("/")[0] for collection in write.inputs) == producers


def test_no_batch_of_a_stage_goes_nowhere(nodes):
    consumed = {id(collection) for node in nodes for collection in node.inputs}
    unused = [
        (node.full_label, tag)
        for node in nodes
        for tag, collection in node.outputs.items()
        if collection.element_type is pa.RecordBatch and id(collection) not in consumed
    ]
    assert unused == []


def test_batches_between_the_stages_have_the_batch_coder():
    pipeline = beam.Pipeline()
    build_pipeline(pipeline, file_job())
    proto: beam_runner_api_pb2.Pipeline = pipeline.to_runner_api()
    components = proto.components
    context = PipelineContext(components)
    is_split = re.compile("[A-Z][a-z]+Cdrs/Split[A-Z][a-z]+/").match
    stages = [
        node
        for node in components.transforms.values()
        if is_split(node.unique_name) and node.spec.urn == "beam:transform:pardo:v1"
    ]
    assert len(stages) == len(Stage)
    for stage in stages:
        for collection in [*stage.inputs.values(), *stage.outputs.values()]:
            coder = context.coders.get_by_id(components.pcollections[collection].coder_id)
            assert isinstance(coder, RecordBatchCoder)


def test_a_stage_that_has_no_topic_cannot_be_published():
    with pytest.raises(ValidationError, match="has no topic of its own"):
        file_job(publish=(Stage.DECODE,))


def test_stages_are_published_on_kafka_only():
    with pytest.raises(ValidationError, match="on Kafka only"):
        file_job(publish=(Stage.VALIDATE,))


def test_a_stage_that_is_not_run_is_not_published():
    source = KafkaSource(bootstrap_servers="localhost:1", group_id="g", expansion_service="localhost:2")
    with pytest.raises(ValidationError, match="starts from normalize publishes no validate: it is done"):
        file_job(
            source=source,
            sink=KafkaSink(bootstrap_servers="localhost:1"),
            start_from=Stage.NORMALIZE,
            publish=(Stage.VALIDATE, Stage.ENRICH),
        )
