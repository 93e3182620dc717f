"""WriteCdrs and WriteDeadLetters: to Kafka or to files, by what the job's sink is."""

import apache_beam as beam

from orion_beam.config import FileSink, JobConfig, KafkaSink
from orion_beam.files import DEAD_LETTER_FILE, FINAL_FILE, WriteAvroFile, dead_letter_bodies, values_of
from orion_beam.kafka.topics import STAGE_TOPICS
from orion_beam.kafka.write import ProduceDeadLetters, ProduceMessages
from orion_beam.metrics import DEAD_LETTER, FINAL, CountRows
from schemas.avro_format import single_object_header
from schemas.cdr import UnifiedCdr
from schemas.codes import Stage
from schemas.dead_letter import DeadLetter
from schemas.derive import avro_schema
from transforms.encode import EncodeCdrs, Wire
from transforms.resume import STAGE_MODELS


class WriteCdrs(beam.PTransform):  # type: ignore[misc]
    """Writes encoded CDRs to cdr.final, or to `cdr.final.avro`.

    In: `pa.RecordBatch` of `transforms.encode.ENCODED_SCHEMA`. At least once on Kafka, exactly once in files.
    """

    def __init__(self, config: JobConfig) -> None:
        """Take the job's sink."""
        super().__init__()
        self.sink = config.sink

    def expand(self, messages: beam.PCollection) -> beam.PCollection:
        """Write by the kind of sink."""
        if isinstance(self.sink, FileSink):
            counted = messages | "CountRows" >> beam.ParDo(CountRows(FINAL))
            bodies = counted | "Values" >> beam.Map(values_of)
            return bodies | WriteAvroFile(self.sink.directory / FINAL_FILE, UnifiedCdr)
        return messages | ProduceMessages(self.sink, self.sink.final_topic)


class WriteDeadLetters(beam.PTransform):  # type: ignore[misc]
    """Writes dead letters to cdr.dlq, or to `cdr.dlq.avro`.

    In: `pa.RecordBatch` of `schemas.dead_letter.DEAD_LETTER_SCHEMA`. At least once on Kafka, exactly once in files.
    """

    def __init__(self, config: JobConfig) -> None:
        """Take the job's sink."""
        super().__init__()
        self.sink = config.sink

    def expand(self, letters: beam.PCollection) -> beam.PCollection:
        """Write by the kind of sink."""
        if isinstance(self.sink, FileSink):
            counted = letters | "CountRows" >> beam.ParDo(CountRows(DEAD_LETTER))
            bodies = counted | "Encode" >> beam.Map(dead_letter_bodies)
            return bodies | WriteAvroFile(self.sink.directory / DEAD_LETTER_FILE, DeadLetter)
        return letters | ProduceDeadLetters(self.sink)


class PublishStage(beam.PTransform):  # type: ignore[misc]
    """Writes a stage's accepted rows to the stage's own topic, so that another job can start from there.

    In: `pa.RecordBatch` of the stage's schema. Out: dead letters (only `internal_error`, a bug). At least once.
    The values carry the original message, so that a reject of the later job is still redriven to the raw topic.
    """

    def __init__(self, sink: KafkaSink, stage: Stage) -> None:
        """Take the stage and where its topic is."""
        super().__init__()
        self.sink = sink
        self.stage = stage

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Encode and write; return the dead letters."""
        model = STAGE_MODELS[self.stage]
        messages = batches | "EncodeCdrs" >> EncodeCdrs(model, Wire(single_object_header(avro_schema(model))))
        messages.accepted | "WriteCdrs" >> ProduceMessages(self.sink, STAGE_TOPICS[self.stage])
        return messages.dead_letters
