"""What a job is made of: sources, sinks and switches, checked before anything starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from orion_beam.countries import all_profiles, profiles_of
from orion_beam.defaults import (
    CELLS,
    DUPLICATE_WINDOW,
    MAX_DUPLICATE_WINDOW,
    PROFILES_DIRECTORY,
    SUBSCRIBERS,
    FileFormat,
)
from orion_beam.kafka.lease import new_lease
from orion_beam.schemas.codes import Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.topics.catalogue import TopicName
from orion_beam.topics.names import DEAD_LETTERS, FINAL, STAGE_TOPICS


class _Model(BaseModel):
    # A replay's job is kept as JSON.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_bytes="base64", val_json_bytes="base64")


class KafkaSource(_Model):
    """Raw topics, or the topic of a stage, read as a stream.

    Attributes:
        bootstrap_servers: brokers, `host:port,…`.
        group_id: consumer group, whose committed offsets say where to go on.
        expansion_service: the jar that expands the batched Kafka read, or its address `host:port`.
        consumer_config: Kafka's own settings, over the defaults.
        lease: what names this job to others of its group, see `orion_beam.kafka.lease`.
        max_batch_bytes: size of an element at most.
        max_wait_ms: time after an element's first record until it is handed over, at most.
        spread: every worker reads every topic. Otherwise each reads as few as possible: for as many workers as topics,
            one; for twice as many, one that two share; for half as many, two. Where neither number divides the other,
            topics are spread.
    """

    bootstrap_servers: str
    group_id: str
    expansion_service: str
    consumer_config: Mapping[str, str] = {}
    lease: str = Field(default_factory=new_lease)
    max_batch_bytes: int = 8 << 20
    max_wait_ms: int = 10
    spread: bool = False


class Slice(_Model):
    """Offsets of one partition, from `low` to `high` - 1.

    Attributes:
        topic: the raw topic.
        partition: of the topic.
        low: the first offset.
        high: the offset behind the last one.
    """

    topic: TopicName
    partition: int = Field(ge=0)
    low: int = Field(ge=0)
    high: int = Field(ge=0)

    @property
    def offsets(self) -> int:
        """How many there are."""
        return self.high - self.low


class KafkaRanges(_Model):
    """Offset ranges of raw topics, each read once: a replay.

    Attributes:
        bootstrap_servers: brokers, `host:port,…`.
        lanes: what is read by one reader, slice after slice; lanes are read side by side. Slices of a partition that
            are in one lane stay in order.
    """

    bootstrap_servers: str
    lanes: tuple[tuple[Slice, ...], ...]


class FileSource(_Model):
    """Files of one record a line, by country.

    Attributes:
        inputs: country codes and paths; pipes, too.
        received_at: stands in for the Kafka timestamp; None takes the time of each file's last modification.
        encoding: of the texts, as Python calls it; None for UTF-8.
    """

    inputs: tuple[tuple[str, Path], ...] = Field(min_length=1)
    received_at: AwareDatetime | None = None
    encoding: str | None = None


class KafkaSink(_Model):
    """Topics to write to.

    Attributes:
        bootstrap_servers: brokers, `host:port,…`.
        producer_config: librdkafka's settings, over the defaults.
        final_topic: for CDRs.
        dead_letter_topic: for rejects.
    """

    bootstrap_servers: str
    producer_config: Mapping[str, str] = {}
    final_topic: TopicName = FINAL.name
    dead_letter_topic: TopicName = DEAD_LETTERS.name


class FileSink(_Model):
    """A directory that gets `cdr.final.avro` and `cdr.dlq.avro`, or directories of these names with Parquet files.

    Attributes:
        directory: where the files go.
        file_format: Avro containers or Parquet.
    """

    directory: Path
    file_format: FileFormat = FileFormat.AVRO


class JobConfig(_Model):
    """One job: which countries, from where, to where, and with what.

    Attributes:
        countries: codes of the profiles whose records are read.
        source: where records are read.
        sink: where CDRs and dead letters are written.
        publish: stages whose output is also written to their topics.
        start_from: the stage whose topic is read instead of the raw topics.
        wire_prefix: what stands before each Avro value on cdr.final; None writes JSON.
        cells: path of the cells, CSV or Parquet, on any file system that Beam knows.
        subscribers: path of the subscribers, likewise.
        reference_refresh_s: how often to look whether cells or subscribers have changed; None never looks.
        run_id: of a replay.
        tag_partials: TagPartials, which says which of its session's records a CDR is.
        flag_duplicates: FlagDuplicates, which marks CDRs that came before.
        duplicate_window: rows of a country, in each worker process, among which it looks.
        detect_gaps: DetectSequenceGaps, which reports records of a node that never came.
        gap_tolerance_s: how long a stream waits for them at least.
        profiles_directory: where the country profiles are; the shipped ones unless told otherwise.
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
    profiles_directory: Path = PROFILES_DIRECTORY

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        for stage in (*self.publish, *([self.start_from] if self.start_from else [])):
            if stage not in STAGE_TOPICS:
                raise ValueError(f"stage {stage} has no topic of its own")
        if self.start_from is Stage.ENRICH and (self.tag_partials or self.flag_duplicates or self.detect_gaps):
            raise ValueError("partials, duplicates and gaps are looked for before enrichment: start from normalized")
        stages = list(Stage)
        behind = stages.index(self.start_from) + 1 if self.start_from else 0
        if before := [stage.value for stage in self.publish if stages.index(stage) < behind]:
            raise ValueError(f"a job that starts from {self.start_from} publishes no {', '.join(before)}: it is done")
        if self.publish:
            _ = self.kafka_sink
        if self.start_from:
            _ = self.kafka_source
        return self

    @property
    def kafka_source(self) -> KafkaSource:
        """The source, which is Kafka.

        Raises:
            ValueError: it is not.
        """
        if not isinstance(self.source, KafkaSource):
            raise ValueError("a job can start from a stage on Kafka only")
        return self.source

    @property
    def kafka_sink(self) -> KafkaSink:
        """The sink, which is Kafka.

        Raises:
            ValueError: it is not.
        """
        if not isinstance(self.sink, KafkaSink):
            raise ValueError("stages can be published on Kafka only")
        return self.sink

    @property
    def is_bounded(self) -> bool:
        """Whether the job ends by itself; what it does is counted then."""
        return not isinstance(self.source, KafkaSource)

    @property
    def keeps_columns(self) -> bool:
        """Whether CDRs are written as columns, not encoded."""
        return isinstance(self.sink, FileSink) and self.sink.file_format is FileFormat.PARQUET

    @property
    def profiles(self) -> Mapping[str, CountryProfile]:
        """The profiles of the job's countries."""
        return profiles_of(self.countries, self.profiles_directory)

    @property
    def known_profiles(self) -> Mapping[str, CountryProfile]:
        """Every profile there is: a roamer's operator may be of another country than the job's."""
        return all_profiles(self.profiles_directory)
