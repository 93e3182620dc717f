"""The job with another write: CDRs in Kafka transactions, committed when a bundle ends or when a checkpoint completes.

For test_exactly_once.py, which shows why the product does not write so. Run as a module, it is `orion-beam`.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from confluent_kafka import Producer

from orion_beam.config import KafkaSink
from orion_beam.kafka.clients import producer_config
from orion_beam.schemas.cdr import UnifiedCdr
from tests.integration.harness import Source, avro_reader, source_of_record

COMMIT_VARIABLE = "ORION_TEST_COMMIT"
"""When a transaction is committed: AT_BUNDLE or AT_CHECKPOINT."""
AT_BUNDLE, AT_CHECKPOINT = "bundle", "checkpoint"
DIRECTORY_VARIABLE = "ORION_TEST_TRANSACTIONS"
"""Directory with a file, an OpenTransaction, for each transaction that waits for its checkpoint."""
HELD = "held"
"""File in the directory that names the first transaction to be committed. Its worker waits for its end instead."""
TRANSACTION_TIMEOUT_S = 240.0
"""Time after which the broker aborts what a killed worker has left open."""
_PATIENCE_S = 600.0


class OpenTransaction(NamedTuple):
    """A transaction whose bundle has ended, and which is not committed.

    Attributes:
        transactional_id: Kafka's name of its producer.
        pid: The worker.
        begun_at: In seconds of the Epoch.
        sources: Positions of the raw messages of its records.
    """

    transactional_id: str
    pid: int
    begun_at: float
    sources: list[Source]

    @classmethod
    def read(cls, file: Path) -> "OpenTransaction":
        """Read the file of a transaction."""
        transactional_id, pid, begun_at, sources = json.loads(file.read_text())
        return cls(transactional_id, pid, begun_at, [Source(*source) for source in sources])


class _Transaction:
    def __init__(self, config: Mapping[str, Any]) -> None:
        self.values: list[bytes] = []
        self._begun_at = time.time()
        self._id = uuid.uuid4().hex
        self.producer = Producer(dict(config) | {"transactional.id": self._id})
        self.producer.init_transactions(_PATIENCE_S)
        self.producer.begin_transaction()

    def commit(self) -> None:
        self.producer.commit_transaction(_PATIENCE_S)

    def note(self) -> None:
        read = avro_reader(UnifiedCdr)
        sources = [source_of_record(read(value)) for value in self.values]
        self._file.write_text(json.dumps(OpenTransaction(self._id, os.getpid(), self._begun_at, sources)))

    def commit_at_checkpoint(self) -> None:
        """Commit, because Flink has completed a checkpoint. The first transaction of all is held instead."""
        try:
            os.link(self._file, self._file.with_name(HELD))
        except FileExistsError:
            self.commit()
            self._file.unlink()
        else:
            threading.Event().wait()  # Until the test kills the worker.

    @property
    def _file(self) -> Path:
        return Path(os.environ[DIRECTORY_VARIABLE], self._id)


class _WriteTransactionsFn(beam.DoFn):  # type: ignore[misc]
    """Writes each bundle in a transaction of its own. A checkpoint may wait for several, each needs a producer."""

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._config = config
        self._topic = topic

    def start_bundle(self) -> None:
        self._open: _Transaction | None = None

    def process(self, batch: pa.RecordBatch, finalizer: Any = beam.DoFn.BundleFinalizerParam) -> None:
        if self._open is None:
            self._open = _Transaction(self._config)
            if os.environ[COMMIT_VARIABLE] == AT_CHECKPOINT:
                finalizer.register(self._open.commit_at_checkpoint)
        for key, value in zip(batch.column("key").to_pylist(), batch.column("value").to_pylist(), strict=True):
            self._open.producer.produce(self._topic, value, key)
            self._open.values.append(value)

    def finish_bundle(self) -> None:
        if self._open is not None:
            assert self._open.producer.flush(_PATIENCE_S) == 0
            if os.environ[COMMIT_VARIABLE] == AT_BUNDLE:
                self._open.commit()
            else:
                self._open.note()


class ProduceTransactions(beam.PTransform):  # type: ignore[misc]
    """In the place of `ProduceMessages`."""

    def __init__(self, sink: KafkaSink, topic: str) -> None:
        super().__init__()
        limit_ms = int(TRANSACTION_TIMEOUT_S * 1_000)
        own = {"transaction.timeout.ms": limit_ms, "message.timeout.ms": limit_ms}
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
