"""Records and the note that they were written, together or not at all: a transactional producer and the journal."""

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from orion_beam.errors import JobFailedError, PrerequisiteError, UserError
from orion_beam.kafka.clients import producer_config
from orion_beam.kafka.retry import KafkaRefusedError, retried
from orion_beam.redrive.journal import JOURNAL, Entry, ensure_journal, entry_bytes, read_journal

Headers = list[tuple[str, str | bytes | None]]
"""Kafka's headers, as confluent-kafka wants them."""

TRANSACTION_TIMEOUT_S = 60
"""After so long the broker aborts a transaction whose writer is gone."""

LARGEST_MESSAGE_BYTES = 64 << 20
"""Of a record, before it is compressed."""

_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


class Outgoing(NamedTuple):
    """A record to write; without a timestamp it gets that of the moment."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None


class TransactionalWriter:
    """Writes records and journal entries in transactions. One of an id shuts out those that were there before.

    Entering waits until transactions that an older one left open are ended, so that what is then read is final.
    """

    def __init__(self, bootstrap_servers: str, transactional_id: str) -> None:
        """Take the brokers, and the name by which writers of the same things know each other."""
        self._bootstrap_servers = bootstrap_servers
        self._id = transactional_id
        self._producer = Producer(
            producer_config(bootstrap_servers, {})
            | {
                "transactional.id": transactional_id,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_S * 1000,
                # The topics say what is too large, and those who write ask them.
                "message.max.bytes": LARGEST_MESSAGE_BYTES,
                # A record that cannot be delivered within its transaction's time never is.
                "message.timeout.ms": TRANSACTION_TIMEOUT_S * 1000,
                "log_level": 0,
            }
        )

    def __enter__(self) -> Self:
        """Shut out older writers of the id, and end their transactions."""
        ensure_journal(self._bootstrap_servers)
        try:
            self._waited("its transactions", self._producer.init_transactions)
        except UserError as error:
            raise JobFailedError(f"{self._id} cannot begin: {error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing: no transaction outlives `commit`."""

    def read_journal(self) -> Mapping[str, Entry]:
        """Return the journal's entries; nobody else of this id can add to them any more."""
        return read_journal(self._bootstrap_servers)

    def commit(self, records: Iterable[Outgoing], entries: Mapping[str, Entry]) -> None:
        """Write records and entries in one transaction: when this returns they are there, when it raises they are not.

        Raises:
            UserError: a newer writer of the id has begun.
            JobFailedError: the broker refuses, or does not answer in time; then the journal says whether they are.
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
                    self._producer.produce(JOURNAL, entry_bytes(entry), key.encode())
                # Whether an attempt came about is not known: asking again is safe, and tells.
                self._waited("a transaction", self._producer.commit_transaction)
            except BaseException:
                self._abort()
                raise
        except (KafkaException, KafkaRefusedError) as failure:
            error = failure.error if isinstance(failure, KafkaRefusedError) else failure.args[0]
            if error.code() in _FENCED:
                raise UserError(f"{self._id}: another one has begun, and goes on from here") from None
            raise JobFailedError(f"{self._id}: the broker refuses a transaction: {error.str()}") from None
        except PrerequisiteError as error:
            raise JobFailedError(f"{self._id}: {error}") from None

    def _waited(self, what: str, step: Callable[[float], None]) -> None:
        """Take a step of a transaction; each of librdkafka's can be taken again when its time was up."""
        retried(what, self._bootstrap_servers, step, deadline_s=TRANSACTION_TIMEOUT_S)

    def _abort(self) -> None:
        try:
            self._producer.abort_transaction(TRANSACTION_TIMEOUT_S)
        except KafkaException:
            # The next writer of the id, or the broker when the time is up, aborts it.
            return
