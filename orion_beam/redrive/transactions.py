"""Transactional writer: writes records and their journal entries, all or none."""

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from orion_beam.errors import JobFailedError, PrerequisiteError, UserError
from orion_beam.kafka.clients import producer_config
from orion_beam.kafka.entries import Entry, entry_bytes
from orion_beam.kafka.retry import KafkaRefusedError, retried
from orion_beam.redrive.journal import ensure_journal, journal_topic, read_journal

Headers = list[tuple[str, str | bytes | None]]
"""Kafka headers as confluent-kafka takes them."""

TRANSACTION_TIMEOUT_S = 60
"""Seconds after which the broker aborts a transaction whose writer is gone."""

LARGEST_MESSAGE_BYTES = 64 << 20
"""Maximum size of a record before compression."""

_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


class Outgoing(NamedTuple):
    """Record to write; with `timestamp_ms` None (epoch milliseconds) it gets the present time."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None


class TransactionalWriter:
    """Writer of records and journal entries in transactions; a new writer fences off older ones with its id.

    Entering the context ends the transactions that an older writer left open, so that later reads are final.
    """

    def __init__(self, bootstrap_servers: str, transactional_id: str) -> None:
        """Take the brokers, and the transactional id, which all writers of the same data share."""
        self._bootstrap_servers = bootstrap_servers
        self._id = transactional_id
        self._journal = journal_topic()
        self._producer = Producer(
            producer_config(bootstrap_servers, {})
            | {
                "transactional.id": transactional_id,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_S * 1000,
                # High enough for every topic: callers check the topic's own limit.
                "message.max.bytes": LARGEST_MESSAGE_BYTES,
                # After the transaction's timeout, delivering its records is useless.
                "message.timeout.ms": TRANSACTION_TIMEOUT_S * 1000,
                "log_level": 0,
            }
        )

    def __enter__(self) -> Self:
        """Fence off older writers with this id, and end their transactions.

        Raises:
            JobFailedError: The broker refuses, or does not answer in time.
        """
        ensure_journal(self._bootstrap_servers)
        try:
            self._waited("its transactions", self._producer.init_transactions)
        except UserError as error:
            raise JobFailedError(f"{self._id} cannot begin: {error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing: no transaction stays open after `commit`."""

    def read_journal(self) -> Mapping[str, Entry]:
        """Return the journal's entries; no older writer with this id can add to them any more."""
        return read_journal(self._bootstrap_servers)

    def commit(self, records: Iterable[Outgoing], entries: Mapping[str, Entry]) -> None:
        """Write records and entries in one transaction, which is committed when this returns.

        Raises:
            UserError: A newer writer with this id has begun; nothing was committed.
            JobFailedError: The broker refuses, and nothing was committed; or it does not answer in time, and the
                journal shows whether the transaction was committed.
        """
        try:
            self._producer.begin_transaction()
            try:
                for record in records:
                    self._producer.produce(
                        record.topic,
                        record.value,
                        record.key,
                        record.partition,
                        timestamp=record.timestamp_ms or 0,
                        headers=record.headers,
                    )
                for key, entry in entries.items():
                    self._producer.produce(self._journal, entry_bytes(entry), key.encode())
                # After a timeout it is unknown whether the commit succeeded; repeating it is safe, and tells.
                self._waited("a transaction", self._producer.commit_transaction)
            except BaseException:
                self._abort()
                raise
        except (KafkaException, KafkaRefusedError) as failure:
            error = failure.error if isinstance(failure, KafkaRefusedError) else failure.args[0]
            if error.code() in _FENCED:
                raise UserError(
                    f"{self._id}: another redrive of these letters has started, and goes on from here"
                ) from None
            raise JobFailedError(f"{self._id}: the broker refuses a transaction: {error.str()}") from None
        except PrerequisiteError as error:
            raise JobFailedError(f"{self._id}: {error}") from None

    def _waited(self, what: str, step: Callable[[float], None]) -> None:
        """Make a transactional call of librdkafka, and repeat it while it times out, which is safe."""
        retried(what, self._bootstrap_servers, step, deadline_s=TRANSACTION_TIMEOUT_S)

    def _abort(self) -> None:
        try:
            self._producer.abort_transaction(TRANSACTION_TIMEOUT_S)
        except KafkaException:
            # The next writer with this id aborts the transaction, or the broker does after its timeout.
            return
