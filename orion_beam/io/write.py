"""WriteCdrs, WriteDeadLetters and PublishStage: writes to the job's sink, Kafka or files."""

import apache_beam as beam
import pyarrow as pa

from orion_beam.config import FileSink, JobConfig, KafkaSink
from orion_beam.io.files import (
    DEAD_LETTER_DIRECTORY,
    DEAD_LETTER_FILE,
    FINAL_DIRECTORY,
    FINAL_FILE,
    WriteAvroFile,
    dead_letter_bodies,
    values_of,
)
from orion_beam.io.kafka_sink import ProduceDeadLetters, ProduceMessages
from orion_beam.io.parquet import WriteParquet
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.codes import Stage
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA, DeadLetter
from orion_beam.schemas.derive import avro_schema
from orion_beam.telemetry.run_counters import DEAD_LETTER, FINAL_ROW, CountRows
from orion_beam.transforms.encode import EncodeCdrs, Wire
from orion_beam.transforms.stage.batches import batch_of, columns_of
from orion_beam.transforms.stage.stage_decoding import STAGE_MODELS

__all__ = ["PublishStage", "WriteCdrs", "WriteDeadLetters"]


class WriteCdrs(beam.PTransform):  # type: ignore[misc]
    """Writes CDRs to the topic cdr.final, to `cdr.final.avro`, or to Parquet files by country and event date.

    In: `pa.RecordBatch` of `encode.ENCODED_SCHEMA`; for Parquet, of `cdr.UNIFIED_SCHEMA`. At least once on Kafka;
    exactly once in the files of a job that succeeds. A bounded job counts the rows that it writes.
    """

    def __init__(self, config: JobConfig) -> None:
        """Take the job's sink."""
        super().__init__()
        self.config = config

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Write by the kind of sink."""
        sink = self.config.sink
        if self.config.is_bounded:
            batches = batches | "CountRows" >> beam.ParDo(CountRows(FINAL_ROW)).with_output_types(pa.RecordBatch)
        if isinstance(sink, FileSink) and self.config.keeps_columns:
            return batches | WriteParquet(sink.directory / FINAL_DIRECTORY, ("country", "event_date"))
        if isinstance(sink, FileSink):
            return (
                batches
                | "Values" >> beam.Map(values_of)
                | WriteAvroFile(sink.directory / FINAL_FILE, avro_schema(self.config.final_model))
            )
        return batches | ProduceMessages(sink, sink.final_topic)


class WriteDeadLetters(beam.PTransform):  # type: ignore[misc]
    """Writes dead letters to the topic cdr.dlq, to `cdr.dlq.avro`, or to Parquet files by country.

    In: `pa.RecordBatch` of `dead_letter.DEAD_LETTER_SCHEMA`; for files, a tuple of those of each step. The delivery
    guarantee is that of WriteCdrs.
    """

    def __init__(self, config: JobConfig) -> None:
        """Take the job's sink."""
        super().__init__()
        self.config = config

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no tuples of inputs
    def expand(self, letters: beam.PCollection | tuple[beam.PCollection, ...]) -> beam.PCollection:
        """Write by the kind of sink."""
        sink = self.config.sink
        if not isinstance(sink, FileSink):
            return self._prepared(letters) | ProduceDeadLetters(sink)
        # Each step's letters are written where they are made, and no step after it holds them.
        numbered = enumerate(letters if isinstance(letters, tuple) else (letters,), 1)
        of_steps = tuple((f" {number}", self._prepared(each, f" {number}")) for number, each in numbered)
        if self.config.keeps_columns:
            directory = sink.directory / DEAD_LETTER_DIRECTORY
            written = [each | f"WriteParquet{n}" >> WriteParquet(directory, ("country",)) for n, each in of_steps]
            return written | beam.Flatten()
        bodies = tuple(each | f"Encode{number}" >> beam.Map(dead_letter_bodies) for number, each in of_steps)
        return bodies | WriteAvroFile(sink.directory / DEAD_LETTER_FILE, avro_schema(DeadLetter))

    def _prepared(self, letters: beam.PCollection, number: str = "") -> beam.PCollection:
        """Count the letters of a bounded job, and give those of a replay its id."""
        if self.config.is_bounded:
            counted = beam.ParDo(CountRows(DEAD_LETTER)).with_output_types(pa.RecordBatch)
            letters = letters | f"CountRows{number}" >> counted
        if self.config.run_id is not None:
            of_run = beam.Map(_of_run, self.config.run_id).with_output_types(pa.RecordBatch)
            letters = letters | f"OfRun{number}" >> of_run
        return letters


def _of_run(letters: pa.RecordBatch, run_id: str) -> pa.RecordBatch:
    """Set the run id of dead letters."""
    return batch_of(columns_of(letters) | {"run_id": pa.repeat(run_id, letters.num_rows)}, DEAD_LETTER_SCHEMA)


class PublishStage(beam.PTransform):  # type: ignore[misc]
    """Writes a stage's accepted rows to the stage's own topic, so that another job can start from there.

    In: `pa.RecordBatch` of the stage's schema. Out: dead letters; their only code is `internal_error`, a bug. At least
    once. The values contain the original message, so a reject of the later job can still be redriven to the raw topic.
    """

    def __init__(self, sink: KafkaSink, stage: Stage, topic: str) -> None:
        """Take the Kafka sink, the stage and its topic."""
        super().__init__()
        self.sink = sink
        self.stage = stage
        self.topic = topic

    @property
    def encoded(self) -> EncodeCdrs:
        """Transform that encodes the stage's rows as messages."""
        model = STAGE_MODELS[self.stage]
        return EncodeCdrs(model, Wire(single_object_header(avro_schema(model))), step=f"publish_{self.stage.value}")

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Encode and write the rows; return the dead letters."""
        messages = batches | "EncodeCdrs" >> self.encoded
        messages.accepted | "WriteCdrs" >> ProduceMessages(self.sink, self.topic)
        return messages.dead_letters
