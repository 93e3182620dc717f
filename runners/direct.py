"""Runner of bounded jobs in this process, on Beam's DirectRunner: needs no Java and no Kafka."""

import logging
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from orion_beam.config import JobConfig
from orion_beam.errors import InputFileError, JobFailedError
from orion_beam.pipeline import build_pipeline
from orion_beam.telemetry.run_counters import RowOutcome, outcomes_of
from orion_beam.transforms.stage.split import StageFailedError

DEFAULTS = ("--runner=apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner",)
"""The runner that Beam's `DirectRunner` delegates to. `DirectRunner` itself may try Prism first, which it downloads."""


def run_direct(config: JobConfig, beam_arguments: Sequence[str] = ()) -> dict[RowOutcome, int]:
    """Run a bounded job to its end.

    Args:
        config: The bounded job.
        beam_arguments: Beam's own options; they override DEFAULTS.

    Returns:
        The number of rows by outcome.

    Raises:
        JobFailedError: A stage fails for row after row, which is a bug of this product.
        InputFileError: A file cannot be read to its end.
    """
    pipeline = beam.Pipeline(options=PipelineOptions([*DEFAULTS, *beam_arguments]))
    build_pipeline(pipeline, config)
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except StageFailedError as error:
        # Beam appends the name of the step to the message.
        raise JobFailedError(str(error).partition(" [while running")[0]) from None
    except InputFileError as error:
        raise InputFileError(str(error).partition(" [while running")[0]) from None
    return outcomes_of(result)


# The command reports an InputFileError in one line. Without this filter, Beam logs a traceback as well.
logging.getLogger("apache_beam.runners.common").addFilter(lambda record: not isinstance(record.msg, InputFileError))
