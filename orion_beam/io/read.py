"""ReadRawCdrs and ReadStage: the job's source, whatever its kind, as batches of one schema."""

from collections.abc import Mapping

import apache_beam as beam

from orion_beam.config import FileSource, JobConfig, KafkaRanges, KafkaSource
from orion_beam.io.duplicates_before import DuplicatesBefore
from orion_beam.io.files import ReadFiles
from orion_beam.io.kafka_source import ReadKafka
from orion_beam.io.offset_range_source import ReadKafkaRanges
from orion_beam.schemas.codes import Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.stage.split import StageOutput
from orion_beam.transforms.stage.stage_decoding import DecodeStage

__all__ = ["ReadRawCdrs", "ReadStage"]


class ReadRawCdrs(beam.PTransform):  # type: ignore[misc]
    """Reads raw messages from Kafka (a stream), from Kafka offset ranges, or from files (both bounded).

    Out: `pa.RecordBatch` of `raw.RAW_CDR_SCHEMA`, some thousand rows of one country. One row is one Kafka message or
    one line of a file. At least once.
    """

    def __init__(self, config: JobConfig) -> None:
        """Take the job's configuration."""
        super().__init__()
        self.config = config

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Read by the kind of source."""
        source = self.config.source
        if isinstance(source, FileSource):
            return pipeline | ReadFiles(source, self.config.profiles)
        topics = {profile.topic: profile.code for profile in self.config.profiles.values()}
        if isinstance(source, KafkaRanges):
            before = DuplicatesBefore.of(self.config) if self.config.flag_duplicates else None
            return pipeline | ReadKafkaRanges(source, topics, before)
        return pipeline | ReadKafka(source, topics)


class ReadStage(beam.PTransform):  # type: ignore[misc]
    """Reads the topic of a stage, which an earlier job published.

    Out: StageOutput of accepted batches (the stage's schema) and dead letters; see DecodeStage. At least once.
    """

    def __init__(
        self,
        source: KafkaSource,
        stage: Stage,
        topic: str,
        profiles: Mapping[str, CountryProfile],
        kept_schemas: tuple[str, ...] = (),
    ) -> None:
        """Take the Kafka source, the stage, its topic, the profiles of the job's countries, and the kept schemas."""
        super().__init__()
        self.source = source
        self.stage = stage
        self.topic = topic
        self.profiles = profiles
        self.kept_schemas = kept_schemas

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no named tuples of outputs
    def expand(self, pipeline: beam.Pipeline) -> StageOutput:
        """Read and decode."""
        messages = pipeline | ReadKafka(self.source, {self.topic: None})
        return messages | DecodeStage(self.stage, self.profiles, self.kept_schemas)  # type: ignore[no-any-return]
