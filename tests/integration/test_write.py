"""Writing to a real Kafka: what does not fit into the producer's queue waits, and keeps its order."""

import apache_beam as beam
import pyarrow as pa
import pytest

from orion_beam.config import KafkaSink
from orion_beam.kafka.topics import FINAL
from orion_beam.kafka.write import ProduceMessages
from runners.local_kafka import LocalKafka
from tests.integration.harness import read_topic
from transforms.encode import ENCODED_SCHEMA

pytestmark = pytest.mark.integration

MESSAGES = 5_000


def test_a_queue_that_is_full_loses_nothing_and_keeps_the_order(kafka: LocalKafka) -> None:
    values = [str(number).encode() for number in range(MESSAGES)]
    columns = [pa.array([b"key"] * MESSAGES), pa.array(values), pa.repeat("FR", MESSAGES)]
    batch = pa.RecordBatch.from_arrays(columns, schema=ENCODED_SCHEMA)
    narrow = {"queue.buffering.max.messages": "100"}
    sink = KafkaSink(bootstrap_servers=kafka.bootstrap_servers, producer_config=narrow)
    with beam.Pipeline() as pipeline:
        batches = pipeline | beam.Create([batch], reshuffle=False).with_output_types(pa.RecordBatch)
        batches | ProduceMessages(sink, FINAL.name)
    written = read_topic(kafka.bootstrap_servers, FINAL.name)
    assert [record.value for record in written] == values
