"""The pipeline from raw topics to cdr.final and cdr.dlq: one line a step, each step in a file of its own."""

from uuid import uuid4

import apache_beam as beam

from orion_beam.config import JobConfig
from orion_beam.custom_stages.declaration import extra_blocks_of
from orion_beam.flow import Flow
from orion_beam.io.write import WriteCdrs, WriteDeadLetters
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.codes import Stage
from orion_beam.sequence_gaps import ReportSequenceGaps
from orion_beam.transforms.decode import DecodeCdrs
from orion_beam.transforms.encode import EncodeCdrs, UnifyCdrs, Wire
from orion_beam.transforms.enrich import EnrichCdrs, operators_of
from orion_beam.transforms.normalize import NormalizeCdrs
from orion_beam.transforms.record_checks.duplicates import FlagDuplicates
from orion_beam.transforms.record_checks.partials import TagPartials
from orion_beam.transforms.stage.join_countries import JoinCountries
from orion_beam.transforms.validate import ValidateCdrs

__all__ = ["build_pipeline"]


def build_pipeline(pipeline: beam.Pipeline, config: JobConfig) -> None:
    """Build the graph of a job. It is the same for a stream on Flink, a bounded run over files, and tests.

    Each record that is read is written at least once, either to cdr.final or to cdr.dlq.
    """
    profiles, run_id = config.profiles, config.run_id
    operators = operators_of(config.known_profiles)
    enrich = EnrichCdrs(profiles, operators, config.cells, config.subscribers, config.reference_refresh_s)
    # Each chunk of a replay is a job of its own. The run ID lets these jobs share the keys that a process remembers.
    flag_duplicates = FlagDuplicates(profiles, config.duplicate_window, run_id or uuid4().hex)
    blocks = extra_blocks_of(config.stages)
    encode = EncodeCdrs(UnifiedCdr, Wire(config.wire_prefix), run_id, blocks)

    cdrs = Flow(pipeline, config)
    cdrs.split(Stage.DECODE, "DecodeCdrs" >> DecodeCdrs(profiles))
    cdrs.map(Stage.DECODE, "JoinCountries" >> JoinCountries())
    cdrs.split(Stage.VALIDATE, "ValidateCdrs" >> ValidateCdrs(profiles))
    cdrs.publish(Stage.VALIDATE)
    cdrs.custom(Stage.VALIDATE)
    cdrs.split(Stage.NORMALIZE, "NormalizeCdrs" >> NormalizeCdrs(profiles))
    cdrs.publish(Stage.NORMALIZE)
    cdrs.custom(Stage.NORMALIZE)
    cdrs.observe(Stage.ENRICH, "ReportSequenceGaps" >> ReportSequenceGaps(config), when=config.detect_gaps)
    cdrs.split(Stage.ENRICH, "TagPartials" >> TagPartials(), when=config.tag_partials)
    cdrs.split(Stage.ENRICH, "FlagDuplicates" >> flag_duplicates, when=config.flag_duplicates)
    cdrs.split(Stage.ENRICH, "EnrichCdrs" >> enrich)
    cdrs.publish(Stage.ENRICH)
    cdrs.custom(Stage.ENRICH)
    cdrs.split(Stage.ENCODE, "UnifyCdrs" >> UnifyCdrs(run_id, blocks), when=config.keeps_columns)
    cdrs.split(Stage.ENCODE, "EncodeCdrs" >> encode, when=not config.keeps_columns)
    cdrs.batches | "WriteCdrs" >> WriteCdrs(config)
    cdrs.dead_letters | "WriteDeadLetters" >> WriteDeadLetters(config)
