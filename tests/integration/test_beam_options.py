"""The settings of others that are checked before a job starts are those that they have in these versions."""

import re
import subprocess

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2 as job_api
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer

from orion_beam.kafka.clients import known_consumer_settings
from orion_beam.runners.flink_parts.beam_options import flink_options
from orion_beam.runners.jars.build import ensure_jars, find_java

pytestmark = pytest.mark.integration


def test_flink_options_are_those_of_the_job_server() -> None:
    jar = ensure_jars().flink_job_server
    server = FlinkJarJobServer(PipelineOptions([f"--flink_job_server_jar={jar}", "--flink_master=[local]"]))
    try:
        service = server.start()
        answer = service.DescribePipelineOptions(job_api.DescribePipelineOptionsRequest(), timeout=600)
    finally:
        server.stop()
    kinds = {option.name: job_api.PipelineOptionType.Enum.Name(option.type).lower() for option in answer.options}
    # When it fails after an upgrade of Beam, write these into runners/flink_parts/flink_options.csv.
    assert kinds == flink_options()


def test_consumer_settings_are_those_of_the_java_client() -> None:
    jars = ensure_jars().expansion_service.parent
    path = ":".join(str(next(jars.rglob(f"{name}-[0-9]*.jar"))) for name in ("kafka-clients", "slf4j-api"))
    command = [find_java(), "-cp", path, "org.apache.kafka.clients.consumer.ConsumerConfig"]
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    entries = re.findall(r'<h4><a id="([^"]+)">.*?<tr><th>Type:</th><td>(\w+)</td>', page, re.DOTALL)
    # When it fails after an upgrade of Beam or Kafka, write these into orion_beam/kafka/known_consumer_settings.csv.
    assert dict(entries) == known_consumer_settings()
