"""Configuration of a job: its source, sink and options. It is validated before the job starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from orion_beam.countries import ProfileSource, all_profiles, profile_source, profiles_of
from orion_beam.custom_stages.declaration import JobStage, final_model_of
from orion_beam.defaults import (
    CELLS,
    DUPLICATE_WINDOW,
    MAX_DUPLICATE_WINDOW,
    SUBSCRIBERS,
    FileFormat,
)
from orion_beam.kafka.lease import new_lease
from orion_beam.schemas.avro_format import SINGLE_OBJECT_MARKER, single_object_header
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.codes import Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.derive import avro_schema
from orion_beam.topics.catalogue import TopicName
from orion_beam.topics.names import own_topics, stage_topics

__all__ = ["FileSink", "FileSource", "JobConfig", "KafkaRanges", "KafkaSink", "KafkaSource", "Slice"]


class _Model(BaseModel):
    # A replay stores its job configuration as JSON.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_bytes="base64", val_json_bytes="base64")


class KafkaSource(_Model):
    """Raw topics, or the topic of a stage, read as a stream.

    Attributes:
        bootstrap_servers: Brokers, `host:port,…`.
        group_id: Consumer group. The job resumes at the group's committed offsets.
        expansion_service: Path of the jar that expands the batched Kafka read, or a running service's `host:port`;
            None for a job that is only drawn (`orion_beam.inspect.job_graph`).
        consumer_config: Settings of the Kafka consumer; they override the defaults.
        lease: Identity of this submission, see `orion_beam.kafka.lease`.
        second_job: Whether the job may read although another one of its group does.
        max_batch_bytes: Largest size of an element.
        max_wait_ms: Longest time from an element's first record until the element is emitted.
        spread: Whether every worker reads every topic. If false, each worker reads as few topics as possible: one topic
            with as many workers as topics, two topics with half as many. With twice as many workers, two workers share
            a topic. If neither number divides the other, every worker reads every topic.
    """

    bootstrap_servers: str
    group_id: str
    expansion_service: str | None
    consumer_config: Mapping[str, str] = {}
    lease: str = Field(default_factory=new_lease)
    second_job: bool = False
    max_batch_bytes: int = 8 << 20
    max_wait_ms: int = 10
    spread: bool = False


class Slice(_Model):
    """A range of offsets of one partition, from `low` to `high` - 1.

    Attributes:
        topic: Raw topic.
        partition: Partition of the topic.
        low: First offset.
        high: Offset after the last one.
    """

    topic: TopicName
    partition: int = Field(ge=0)
    low: int = Field(ge=0)
    high: int = Field(ge=0)

    @property
    def offsets(self) -> int:
        """Number of offsets in the range."""
        return self.high - self.low


class KafkaRanges(_Model):
    """Source of a replay: offset ranges of raw topics, each read once.

    Attributes:
        bootstrap_servers: Brokers, `host:port,…`.
        lanes: Slices by reader. One reader reads a lane, slice after slice; lanes are read in parallel. Slices of a
            partition stay in order if they are in one lane.
    """

    bootstrap_servers: str
    lanes: tuple[tuple[Slice, ...], ...]


class FileSource(_Model):
    """Files of one record a line, by country.

    Attributes:
        inputs: Pairs of country code and path. A path may be a named pipe.
        received_at: Time used in place of the Kafka timestamp; None means each file's time of last modification.
        encoding: Python's name for the encoding of the text; None means UTF-8.
    """

    inputs: tuple[tuple[str, Path], ...] = Field(min_length=1)
    received_at: AwareDatetime | None = None
    encoding: str | None = None


class KafkaSink(_Model):
    """Topics to write to.

    Attributes:
        bootstrap_servers: Brokers, `host:port,…`.
        producer_config: Settings of librdkafka; they override the defaults.
        final_topic: Topic for CDRs.
        dead_letter_topic: Topic for rejected records.
    """

    bootstrap_servers: str
    producer_config: Mapping[str, str] = {}
    final_topic: TopicName = Field(default_factory=lambda: own_topics().final.name)
    dead_letter_topic: TopicName = Field(default_factory=lambda: own_topics().dead_letters.name)


class FileSink(_Model):
    """A directory for the files `cdr.final.avro` and `cdr.dlq.avro`, or for directories of Parquet files.

    Attributes:
        directory: Path of the directory.
        file_format: Avro container files or Parquet.
    """

    directory: Path
    file_format: FileFormat = FileFormat.AVRO


class JobConfig(_Model):
    """One job: its countries, source, sink and options.

    Attributes:
        countries: Codes of the countries whose records are read.
        source: Source of the records.
        sink: Destination of CDRs and dead letters.
        publish: Stages whose output is also written to their topics.
        start_from: Stage whose topic is read instead of the raw topics.
        wire_prefix: Bytes before each Avro value on cdr.final; None writes JSON.
        cells: Path of the cells, CSV or Parquet, or `s3://BUCKET/KEY`, or on another file system that Beam supports.
        subscribers: Path of the subscribers, likewise.
        reference_refresh_s: Seconds between checks for changed cells or subscribers; None means no checks.
        run_id: ID of the replay run; None if the job is not a replay.
        tag_partials: Whether TagPartials marks a CDR as the first, an intermediate or the last record of its session.
        flag_duplicates: Whether FlagDuplicates marks CDRs that repeat an earlier one.
        duplicate_window: Number of latest rows among which FlagDuplicates looks, per country and worker process.
        detect_gaps: Whether DetectSequenceGaps reports missing records of a node.
        gap_tolerance_s: Shortest time that a stream waits for a missing record.
        stages: The user's own stages, in order.
        profile_source: Origin of the country profiles; by default the shipped ones and the workspace's.
        stage_topics: Topic of each stage whose output can be published.
        kept_schemas: Avro schemas of other versions, as JSON text. A job that starts from a stage reads their records.
    """

    countries: tuple[str, ...] = Field(min_length=1)
    source: KafkaSource | KafkaRanges | FileSource
    sink: KafkaSink | FileSink
    publish: tuple[Stage, ...] = ()
    start_from: Stage | None = None
    wire_prefix: bytes | None
    cells: str = CELLS
    subscribers: str = SUBSCRIBERS
    reference_refresh_s: float | None = Field(default=None, gt=0)
    run_id: str | None = None
    tag_partials: bool = False
    flag_duplicates: bool = False
    duplicate_window: int = Field(default=DUPLICATE_WINDOW, gt=0, le=MAX_DUPLICATE_WINDOW)
    detect_gaps: bool = False
    gap_tolerance_s: float = Field(default=60.0, gt=0)
    stages: tuple[JobStage, ...] = ()
    profile_source: ProfileSource = Field(default_factory=profile_source)
    stage_topics: Mapping[Stage, TopicName] = Field(default_factory=stage_topics)
    kept_schemas: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        for stage in (*self.publish, *([self.start_from] if self.start_from else [])):
            if stage not in self.stage_topics:
                raise ValueError(f"stage {stage} has no topic of its own")
        if self.start_from is Stage.ENRICH and (self.tag_partials or self.flag_duplicates or self.detect_gaps):
            raise ValueError("partials, duplicates and gaps are looked for before enrichment: start from normalized")
        stages = list(Stage)
        behind = stages.index(self.start_from) + 1 if self.start_from else 0
        if before := [stage.value for stage in self.publish if stages.index(stage) < behind]:
            raise ValueError(f"a job that starts from {self.start_from} publishes no {', '.join(before)}: it is done")
        names = [each.name for each in self.stages]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two stages are named {twice[0]}: each needs a name of its own")
        for each in self.stages:
            if each.fields and stages.index(each.after) + 1 < behind:
                raise ValueError(
                    f"stage {each.name} adds fields after {each.after}, and a job that starts from {self.start_from}"
                    f" has them no more: let it run after {self.start_from}"
                )
        header = single_object_header(avro_schema(self.final_model))
        if self.wire_prefix and self.wire_prefix.startswith(SINGLE_OBJECT_MARKER) and self.wire_prefix != header:
            raise ValueError("wire_prefix has the fingerprint of another schema than the job's CDRs")
        if self.publish:
            _ = self.kafka_sink
        if self.start_from:
            _ = self.kafka_source
        return self

    @property
    def kafka_source(self) -> KafkaSource:
        """The source, which must be Kafka.

        Raises:
            ValueError: The source is not Kafka.
        """
        if not isinstance(self.source, KafkaSource):
            raise ValueError("a job can start from a stage on Kafka only")
        return self.source

    @property
    def kafka_sink(self) -> KafkaSink:
        """The sink, which must be Kafka.

        Raises:
            ValueError: The sink is not Kafka.
        """
        if not isinstance(self.sink, KafkaSink):
            raise ValueError("stages can be published on Kafka only")
        return self.sink

    @property
    def is_bounded(self) -> bool:
        """Whether the job ends by itself. A bounded job reports its counts at its end."""
        return not isinstance(self.source, KafkaSource)

    @property
    def keeps_columns(self) -> bool:
        """Whether CDRs are written as Arrow columns (Parquet) instead of encoded values."""
        return isinstance(self.sink, FileSink) and self.sink.file_format is FileFormat.PARQUET

    def stages_after(self, stage: Stage) -> tuple[JobStage, ...]:
        """Return the user's own stages that follow a stage, in order.

        They follow the stage's topic as well, so a job that starts from the topic runs them.
        """
        order = list(Stage)
        is_done = self.start_from is not None and order.index(stage) < order.index(self.start_from)
        return () if is_done else tuple(each for each in self.stages if each.after is stage)

    @property
    def final_model(self) -> type[UnifiedCdr]:
        """The model of a value on cdr.final: UnifiedCdr with the blocks of the user's own stages."""
        return final_model_of(self.stages)

    @property
    def profiles(self) -> Mapping[str, CountryProfile]:
        """The profiles of the job's countries."""
        return profiles_of(self.countries, self.profile_source)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that a stream reads: those of the countries, or that of the stage that it starts from."""
        if self.start_from is not None:
            return (self.stage_topics[self.start_from],)
        return tuple(profile.topic for profile in self.profiles.values())

    @property
    def known_profiles(self) -> Mapping[str, CountryProfile]:
        """All profiles of this origin. A roamer's operator may belong to a country that the job does not read."""
        return all_profiles(self.profile_source)
