"""Flow: the builder with which `orion_beam.pipeline` chains the steps of a job."""

import apache_beam as beam

from orion_beam.config import FileSink, JobConfig
from orion_beam.custom_stages.run import RunCustomStage
from orion_beam.io.read import ReadRawCdrs, ReadStage
from orion_beam.io.write import PublishStage
from orion_beam.schemas.codes import Stage


class Flow:
    """The batches of a job so far, and the dead letters that its steps have made.

    Each step runs with a stage: it is that stage, prepares its input or takes its output. A job with
    `JobConfig.start_from` skips the steps of that stage and of all stages before it: an earlier job has done them.

    Attributes:
        batches: PCollection of `pa.RecordBatch`, with the schema of the last step.
    """

    def __init__(self, pipeline: beam.Pipeline, config: JobConfig) -> None:
        """Read the raw topics, or the topic of the stage that the job starts from."""
        self._config = config
        self._dead_letters: list[beam.PCollection] = []
        if config.start_from is None:
            self.batches = pipeline | "ReadRawCdrs" >> ReadRawCdrs(config)
        else:
            topic = config.stage_topics[config.start_from]
            read = ReadStage(config.kafka_source, config.start_from, topic, config.profiles, config.kept_schemas)
            self.batches, dead_letters = pipeline | "ReadStage" >> read
            self._dead_letters.append(dead_letters)

    def split(self, stage: Stage, transform: beam.PTransform, *, when: bool = True) -> None:
        """Apply a step that accepts each row or turns it into a dead letter (`StageOutput`)."""
        if when and self._does(stage):
            self.batches, dead_letters = self.batches | transform
            self._dead_letters.append(dead_letters)

    def map(self, stage: Stage, transform: beam.PTransform) -> None:
        """Apply a step that accepts every row."""
        if self._does(stage):
            self.batches = self.batches | transform

    def observe(self, stage: Stage, transform: beam.PTransform, *, when: bool = True) -> None:
        """Apply a step that reads the batches and leaves them unchanged."""
        if when and self._does(stage):
            self.batches | transform

    def custom(self, stage: Stage) -> None:
        """Apply the user's own stages that follow a stage."""
        for declared in self._config.stages_after(stage):
            self.batches, dead_letters = self.batches | declared.name >> RunCustomStage(declared)
            self._dead_letters.append(dead_letters)

    def publish(self, stage: Stage) -> None:
        """Write the batches to the stage's topic as well, if the job publishes it."""
        if stage in self._config.publish:
            topic = self._config.stage_topics[stage]
            publish = PublishStage(self._config.kafka_sink, stage, topic)
            self._dead_letters.append(self.batches | f"Publish {topic}" >> publish)

    @property
    def dead_letters(self) -> beam.PCollection | tuple[beam.PCollection, ...]:
        """The dead letters of all steps: `pa.RecordBatch` of `dead_letter.DEAD_LETTER_SCHEMA`.

        A job that writes files gets those of each step. The DirectRunner would hold all of them in memory, until the
        last record is read, to flatten them.
        """
        if isinstance(self._config.sink, FileSink):
            return tuple(self._dead_letters)
        return self._dead_letters | "FlattenDeadLetters" >> beam.Flatten()

    def _does(self, stage: Stage) -> bool:
        stages, start = list(Stage), self._config.start_from
        return start is None or stages.index(stage) > stages.index(start)
