"""The pipeline, from raw topics to cdr.final and cdr.dlq: a table of contents, each step a file of its own."""

import apache_beam as beam

from orion_beam.checks import ReportSequenceGaps, record_checks
from orion_beam.config import JobConfig
from orion_beam.kafka.topics import STAGE_TOPICS
from orion_beam.read import ReadRawCdrs, ReadStage
from orion_beam.write import PublishStage, WriteCdrs, WriteDeadLetters
from schemas.cdr import UnifiedCdr
from schemas.codes import Stage
from transforms.countries import JoinCountries
from transforms.decode import DecodeCdrs
from transforms.encode import EncodeCdrs, UnifyCdrs, Wire
from transforms.enrich import EnrichCdrs, operators_of
from transforms.normalize import NormalizeCdrs
from transforms.validate import ValidateCdrs


def build_pipeline(pipeline: beam.Pipeline, config: JobConfig) -> None:
    """Compose the job: the same graph as a stream on Flink, bounded over files, and in tests.

    Every record that is read is written, at least once, to exactly one of cdr.final and cdr.dlq.
    """
    profiles = config.profiles
    operators = operators_of(config.known_profiles)
    enrich = EnrichCdrs(profiles, operators, config.cells, config.subscribers, config.reference_refresh_s)
    encode = (
        UnifyCdrs(config.run_id)
        if config.keeps_columns
        else EncodeCdrs(UnifiedCdr, Wire(config.wire_prefix), config.run_id)
    )
    chain: dict[Stage, list[beam.PTransform]] = {
        Stage.DECODE: [DecodeCdrs(profiles)],
        Stage.VALIDATE: [ValidateCdrs(profiles)],
        Stage.NORMALIZE: [NormalizeCdrs(profiles)],
        Stage.ENRICH: [*record_checks(config), enrich],
        Stage.ENCODE: [encode],
    }
    batches, rejects = _read(pipeline, config)
    for stage in list(chain)[0 if config.start_from is None else list(chain).index(config.start_from) + 1 :]:
        if stage is Stage.ENRICH and config.detect_gaps:
            batches | "ReportSequenceGaps" >> ReportSequenceGaps(config)
        for transform in chain[stage]:
            batches, dead_letters = batches | transform
            rejects.append(dead_letters)
        if stage is Stage.DECODE:
            batches = batches | "JoinCountries" >> JoinCountries()
        if stage in config.publish:
            rejects.append(batches | f"Publish {STAGE_TOPICS[stage]}" >> PublishStage(config.kafka_sink, stage))
    batches | "WriteCdrs" >> WriteCdrs(config)
    rejects | "FlattenDeadLetters" >> beam.Flatten() | "WriteDeadLetters" >> WriteDeadLetters(config)


def _read(pipeline: beam.Pipeline, config: JobConfig) -> tuple[beam.PCollection, list[beam.PCollection]]:
    if config.start_from is None:
        return pipeline | "ReadRawCdrs" >> ReadRawCdrs(config), []
    resumed = pipeline | "ReadStage" >> ReadStage(config.kafka_source, config.start_from, config.profiles)
    return resumed.accepted, [resumed.dead_letters]
