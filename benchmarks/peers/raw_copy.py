"""Ceiling: copies each record unchanged with the batch calls of librdkafka, as ORION's replay reads and writes.

    python -m benchmarks.peers.raw_copy BOOTSTRAP PROCESSES

Each process copies its share of the partitions, from their beginning, until it gets SIGTERM. It commits nothing.
"""

import logging
import multiprocessing
import sys

from benchmarks.peers.records import TOPIC
from orion_beam.kafka.admin import admin_client
from orion_beam.kafka.clients import producer_config
from orion_beam.kafka.column_consumer import ColumnConsumer
from orion_beam.kafka.column_producer import ColumnProducer, DeliveryRefusal

_MESSAGES = 10_000
_WAIT_S = 0.05
_MOST_HELD = 200_000


def _refused(refusal: DeliveryRefusal) -> None:
    raise RuntimeError(f"a record cannot be produced: {refusal.reason}")


def _copy(bootstrap_servers: str, partitions: list[int]) -> None:
    producer = ColumnProducer(producer_config(bootstrap_servers, {}), _refused, logging.getLogger(__name__))
    settings = {"bootstrap.servers": bootstrap_servers, "group.id": "raw-copy", "enable.auto.commit": False}
    with ColumnConsumer(settings) as consumer:
        consumer.assign({(TOPIC, partition): 0 for partition in partitions})
        while True:
            for records in consumer.consume(_MESSAGES, _WAIT_S).records.values():
                producer.produce("cdr.final", records.keys, records.values)
            producer.poll(0)
            while producer.held > _MOST_HELD:
                producer.flush(_WAIT_S)


def main() -> None:
    """Start the processes, which end with this one."""
    bootstrap_servers, count = sys.argv[1], int(sys.argv[2])
    partitions = sorted(admin_client(bootstrap_servers).list_topics(TOPIC, timeout=10).topics[TOPIC].partitions)
    context = multiprocessing.get_context("spawn")
    shares = [partitions[first::count] for first in range(count)]
    copies = [context.Process(target=_copy, args=(bootstrap_servers, share), daemon=True) for share in shares]
    for copy in copies:
        copy.start()
    for copy in copies:
        copy.join()


if __name__ == "__main__":
    main()
