"""Runs a bounded job in this process, on Beam's DirectRunner: no Java, no Kafka."""

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
"""What `DirectRunner` comes to in the end, but for a try of Prism, which is a download."""


def run_direct(config: JobConfig, beam_arguments: Sequence[str] = ()) -> dict[RowOutcome, int]:
    """Run a bounded job to its end.

    Args:
        config: the job; source and sink are files.
        beam_arguments: Beam's own options, over DEFAULTS.

    Returns:
        How many rows had which outcome.

    Raises:
        JobFailedError: a bug of ours hits row after row.
        InputFileError: a file cannot be read as a whole.
    """
    pipeline = beam.Pipeline(options=PipelineOptions([*DEFAULTS, *beam_arguments]))
    build_pipeline(pipeline, config)
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except StageFailedError as error:
        # Beam says where, at the end.
        raise JobFailedError(str(error).partition(" [while running")[0]) from None
    except InputFileError as error:
        raise InputFileError(str(error).partition(" [while running")[0]) from None
    return outcomes_of(result)


# One line says what is wrong with a file; Beam would log a traceback as well.
logging.getLogger("apache_beam.runners.common").addFilter(lambda record: not isinstance(record.msg, InputFileError))
