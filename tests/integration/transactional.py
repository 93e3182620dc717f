"""The job with another write: CDRs in Kafka transactions, committed when a bundle ends or when a checkpoint completes.

For test_exactly_once.py, which shows why the product does not write so. Run as a module, it is `orion-beam`.
"""

import os
import signal
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
from confluent_kafka import Producer

from orion_beam.config import KafkaSink
from orion_beam.kafka.clients import producer_config

COMMIT_VARIABLE = "ORION_TEST_COMMIT"
"""When a transaction is committed: AT_BUNDLE or AT_CHECKPOINT."""
AT_BUNDLE, AT_CHECKPOINT = "bundle", "checkpoint"
CRASH_VARIABLE = "ORION_TEST_CRASH"
"""File that is made when a worker kills itself, once, instead of its first commit at a checkpoint."""
TRANSACTION_TIMEOUT_MS = 60_000
"""Time after which the broker aborts what a killed worker has left open."""
_PATIENCE_S = 600.0


class _WriteTransactionsFn(beam.DoFn):  # type: ignore[misc]
    """Writes each bundle in a transaction of its own. A checkpoint may wait for several, each needs a producer."""

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._config = config
        self._topic = topic

    def start_bundle(self) -> None:
        self._open: Producer | None = None

    def process(self, batch: pa.RecordBatch, finalizer: Any = beam.DoFn.BundleFinalizerParam) -> None:
        if self._open is None:
            self._open = producer = Producer(dict(self._config) | {"transactional.id": uuid.uuid4().hex})
            producer.init_transactions(_PATIENCE_S)
            producer.begin_transaction()
            if os.environ[COMMIT_VARIABLE] == AT_CHECKPOINT:
                finalizer.register(lambda: _commit_at_checkpoint(producer))
        for key, value in zip(batch.column("key").to_pylist(), batch.column("value").to_pylist(), strict=True):
            self._open.produce(self._topic, value, key)

    def finish_bundle(self) -> None:
        if self._open is not None:
            assert self._open.flush(_PATIENCE_S) == 0
            if os.environ[COMMIT_VARIABLE] == AT_BUNDLE:
                self._open.commit_transaction(_PATIENCE_S)


def _commit_at_checkpoint(producer: Producer) -> None:
    """Commit, as Flink has completed a checkpoint; the first time, crash instead."""
    crash = Path(os.environ[CRASH_VARIABLE])
    try:
        crash.touch(exist_ok=False)
    except FileExistsError:
        producer.commit_transaction(_PATIENCE_S)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


class ProduceTransactions(beam.PTransform):  # type: ignore[misc]
    """In the place of `ProduceMessages`."""

    def __init__(self, sink: KafkaSink, topic: str) -> None:
        super().__init__()
        own = {"transaction.timeout.ms": TRANSACTION_TIMEOUT_MS, "message.timeout.ms": TRANSACTION_TIMEOUT_MS}
        self.config = producer_config(sink.bootstrap_servers, sink.producer_config) | own
        self.topic = topic

    def expand(self, messages: beam.PCollection) -> beam.PCollection:
        return messages | beam.ParDo(_WriteTransactionsFn(self.config, self.topic))


if __name__ == "__main__":
    import orion_beam.io.write
    from orion_beam.cli.main import main
    from tests.integration import transactional

    # Workers find the class by the name of its module.
    orion_beam.io.write.ProduceMessages = transactional.ProduceTransactions  # type: ignore[misc,assignment]
    main()
