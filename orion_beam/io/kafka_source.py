"""Kafka source: one batched read per topic, expanded in Java, whose frames are mapped to Arrow."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.external import ExternalTransform, JavaJarExpansionService, NamedTupleBasedPayloadBuilder

from orion_beam.config import KafkaSource
from orion_beam.io.frames import decode_frame
from orion_beam.kafka.clients import consumer_config
from orion_beam.transforms.stage.batches import MAX_ROWS, at_bundle_end, join_small_batches, slices_of

BATCHED_READ_URN = "orion:kafka_batches:v1"

ENOUGH_ROWS = MAX_ROWS * 3 // 4
"""Rows at which joined frames are emitted: waiting for more would leave Python idle until the bundle ends."""

# Beam's splittable-DoFn read stalls for good at the first checkpoint at parallelism 2. The older source
# (use_deprecated_read) runs inside Flink, in the JVM of the task (EMBEDDED), and takes part in its checkpoints.
_EXPANSION_ARGUMENTS = [
    "{{PORT}}",
    "--defaultEnvironmentType=EMBEDDED",
    "--experiments=use_deprecated_read",
]


class _ReadConfig(NamedTuple):
    consumer_config: Mapping[str, str]
    topic: str
    topic_index: int
    topics: int
    max_records: int
    max_bytes: int
    max_wait_ms: int


class ReadFrames(beam.PTransform):  # type: ignore[misc]
    """Reads one topic as an unbounded stream of frames.

    Out: `bytes`, up to MAX_ROWS messages each, in Arrow's buffer layout. At least once: offsets are committed to the
    group when a checkpoint completes, so a restart continues after the last checkpoint.

    Attributes:
        source: Brokers, consumer group and limits.
        topics: All topics that the job reads.
        topic: The topic to read.
    """

    def __init__(self, source: KafkaSource, topics: Sequence[str], topic: str) -> None:
        """Take the settings; `expand` checks them."""
        super().__init__()
        self.source = source
        self.topics = topics
        self.topic = topic

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Expand the batched read in Java."""
        service = self.source.expansion_service
        config = _ReadConfig(
            consumer_config(self.source.bootstrap_servers, self.source.group_id, self.source.consumer_config),
            self.topic,
            0 if self.source.spread else self.topics.index(self.topic),
            1 if self.source.spread else len(self.topics),
            MAX_ROWS,
            self.source.max_batch_bytes,
            self.source.max_wait_ms,
        )
        if service is None:
            # The job is only drawn. This stands for the read, which only Java can expand, and has its label.
            return pipeline | f"ExternalTransform({BATCHED_READ_URN})/ReadFrames" >> beam.Impulse()
        if service.endswith(".jar"):
            # The task's class path already has the classes of the read. Without --filesToStage the service would hash
            # and hand over all jars of its own class path, 250 MB for each read.
            service = JavaJarExpansionService(service, extra_args=[*_EXPANSION_ARGUMENTS, f"--filesToStage={service}"])
        return pipeline | ExternalTransform(BATCHED_READ_URN, NamedTupleBasedPayloadBuilder(config), service)


class DecodeFrames(beam.DoFn):  # type: ignore[misc]
    """Maps frames to batches, and joins the small frames of a bundle.

    In: `bytes`, a frame. Out: `pa.RecordBatch` of the schemas that ReadKafka names.

    A quiet topic gives frames of a few rows, and the columnar chain costs the same for one row as for hundreds. So the
    frames of a bundle are joined, topic by topic, until they have ENOUGH_ROWS rows or the bundle ends. Frames arrive in
    order, so the order within a partition holds.
    """

    def __init__(self, countries: Mapping[str, str]) -> None:
        """Take the country of each topic; batches of other topics (stage topics) have no column `country`."""
        self._countries = countries

    def start_bundle(self) -> None:
        """Start without pending frames."""
        self._pending: dict[str, list[pa.RecordBatch]] = {}

    def process(self, frame: bytes) -> Iterator[pa.RecordBatch]:
        """Map one frame, and emit the frames of its topic once they have ENOUGH_ROWS rows."""
        batch = decode_frame(frame)
        topic = batch.column("source_topic")[0].as_py()
        pending = self._pending.setdefault(topic, [])
        pending.append(batch)
        if sum(held.num_rows for held in pending) >= ENOUGH_ROWS:
            yield from self._emit(topic)

    def finish_bundle(self) -> Iterator[object]:
        """Emit the pending frames."""
        for topic in list(self._pending):
            for batch in self._emit(topic):
                yield at_bundle_end(batch)

    def _emit(self, topic: str) -> Iterator[pa.RecordBatch]:
        held = self._pending.pop(topic, [])
        if not held:
            return
        country = self._countries.get(topic)
        for batch in join_small_batches(held):
            if country is not None:
                batch = batch.append_column("country", pa.repeat(pa.scalar(country), batch.num_rows))
            yield from slices_of(batch)


class ReadKafka(beam.PTransform):  # type: ignore[misc]
    """Reads topics as a stream of batches; ReadFrames states the delivery guarantee.

    Out: `pa.RecordBatch` of up to MAX_ROWS rows of one topic: `raw.RAW_CDR_SCHEMA` for topics with a country, else
    `raw.RAW_MESSAGE_SCHEMA`. Each topic has a read, and so a source, of its own.
    """

    def __init__(self, source: KafkaSource, topics: Mapping[str, str | None]) -> None:
        """Take the source, and the country of each topic (None for a stage topic)."""
        super().__init__()
        self.source = source
        self.topics = topics

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Read each topic, and flatten the reads before Python, so that one Python stage serves all topics."""
        topics = list(self.topics)
        frames = [pipeline | f"Read {topic}" >> ReadFrames(self.source, topics, topic) for topic in topics]
        joined = frames[0] if len(frames) == 1 else frames | "FlattenTopics" >> beam.Flatten()
        countries = {topic: country for topic, country in self.topics.items() if country is not None}
        return joined | beam.ParDo(DecodeFrames(countries)).with_output_types(pa.RecordBatch)
