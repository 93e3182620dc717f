"""The options of Flink that `run` lets pass are those that the job server of this version has."""

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2 as job_api
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer

from runners.beam_options import flink_options
from runners.jars import ensure_jars

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


# Beam leaves the pipe from its JVM to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_flink_options_are_those_of_the_job_server() -> None:
    jar = ensure_jars().flink_job_server
    server = FlinkJarJobServer(PipelineOptions([f"--flink_job_server_jar={jar}", "--flink_master=[local]"]))
    try:
        service = server.start()
        answer = service.DescribePipelineOptions(job_api.DescribePipelineOptionsRequest(), timeout=60)
    finally:
        server.stop()
    kinds = {option.name: job_api.PipelineOptionType.Enum.Name(option.type).lower() for option in answer.options}
    # When it fails after an upgrade of Beam, write these into runners/flink_options.csv.
    assert kinds == flink_options()
