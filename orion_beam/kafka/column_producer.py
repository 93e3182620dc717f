"""Kafka producer that takes columns: numpy builds librdkafka's message structs from the columns' offsets."""

import ctypes
import logging
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.kafka import librdkafka
from orion_beam.transforms.arrow.compiled import texts_of
from orion_beam.transforms.arrow.texts import is_null, lengths_of


class DeliveryRefusal(NamedTuple):
    """Refusal of a message for good.

    Attributes:
        topic: Topic of the message.
        partition: Partition of the message; -1 if it had none yet.
        code: Error code of Kafka or librdkafka, as in `confluent_kafka.KafkaError`.
        number: Number of the message, see `ColumnProducer.produce`; 0 if it has none.
    """

    topic: str
    partition: int
    code: int
    number: int

    @property
    def reason(self) -> str:
        """Text for the error code; it contains nothing of the message."""
        return str(librdkafka.reason_of(self.code).decode())


OnError = Callable[[DeliveryRefusal], None]
"""Callback for each message that is refused for good."""

_NOWHERE = ctypes.create_string_buffer(1)
_EMPTY = ctypes.addressof(_NOWHERE)
"""Address given for an empty value; librdkafka takes address 0 for a null value."""

_PARTS = 5
"""Parts of a message besides its headers: topic, flags, number, key and value."""


class ColumnProducer:
    """A librdkafka producer. Messages of a partition keep their order.

    Args:
        config: Settings of librdkafka; `delivery.report.only.error` should be true.
        on_error: Called for each message that is refused for good, during `produce`, `poll` and `flush`.
        logger: Gets librdkafka's log lines during `poll` and `flush`.

    Raises:
        KafkaException: A setting is unknown, or has an invalid value.
    """

    def __init__(self, config: Mapping[str, Any], on_error: OnError, logger: logging.Logger) -> None:
        """Create the producer; it connects in the background."""
        # The callback must not keep this producer alive.
        delivered = librdkafka.DeliveryCallback(partial(_delivered, on_error))
        self._handle, kept = librdkafka.new_client(librdkafka.PRODUCER, config, logger, delivered)
        self._topics: dict[str, int] = {}
        self._lent: list[pa.BinaryArray] = []
        self._on_error = on_error
        self._numbered = 0
        self._finalizer = weakref.finalize(self, _end, self._handle, self._topics, (kept, self._lent))
        # A thread of a bundle may still use the handle when the process ends, and the process would crash.
        self._finalizer.atexit = False

    def produce(
        self, topic: str, keys: pa.BinaryArray, values: pa.BinaryArray, headers: pa.ListArray | None = None
    ) -> int:
        """Queue messages, in order, each for the partition of its key.

        Calls `on_error` for a message that cannot be sent. Blocks while librdkafka's queue is full: with
        PRODUCER_DEFAULTS it holds a gigabyte, so only large messages fill it. Without headers, values are not copied:
        the producer keeps their column, see `held`.

        Args:
            topic: Topic of all messages.
            keys: Key of each message.
            values: Value of each message.
            headers: Headers of each message, a list of structs of `key` (text) and `value` (bytes).

        Returns:
            The number of the first message, with which refusals name messages; 0 without headers, since such messages
            have no numbers.
        """
        if headers is not None:
            return self._produce_one_by_one(topic, keys, values, headers)
        messages = np.zeros(len(keys), librdkafka.MESSAGE)
        messages["key"], messages["key_length"] = _places(keys)
        messages["payload"], messages["length"] = _places(values)
        self._lent.append(values)
        taken = librdkafka.produce_batch(
            self._topic(topic), librdkafka.ANY_PARTITION, librdkafka.BLOCK, messages.ctypes.data, len(messages)
        )
        if taken < len(messages):
            errors = messages["err"]
            for code in errors[errors != 0].tolist():
                self._on_error(DeliveryRefusal(topic, librdkafka.ANY_PARTITION, code, 0))
        return 0

    def _produce_one_by_one(
        self, topic: str, keys: pa.BinaryArray, values: pa.BinaryArray, headers: pa.ListArray
    ) -> int:
        """Queue messages with headers: numpy builds the parts of all messages, and librdkafka takes one at a time.

        parts   | topic flags number key value | header header | topic flags number key value | header | ...
                ^ starts[0]                                    ^ starts[1]
        """
        pairs, counts = headers.flatten(), lengths_of(headers)
        # librdkafka takes header names as C strings, which end with a zero byte.
        names = pc.binary_join_element_wise(pairs.field("key"), "", "\0").cast(pa.binary())
        parts = np.zeros(_PARTS * len(keys) + len(pairs), librdkafka.VARIABLE)
        ends = np.cumsum(_PARTS + counts)
        starts = ends - counts - _PARTS
        kinds = (librdkafka.TOPIC, librdkafka.FLAGS, librdkafka.OPAQUE, librdkafka.KEY, librdkafka.VALUE)
        for place, kind in enumerate(kinds):
            parts["kind"][starts + place] = kind
        first = self._numbered + 1
        self._numbered += len(keys)
        parts["first"][starts] = self._topic(topic)
        parts["first"][starts + 1] = librdkafka.COPY | librdkafka.BLOCK
        parts["first"][starts + 2] = np.arange(first, first + len(keys))
        parts["first"][starts + 3], parts["second"][starts + 3] = _places(keys)
        parts["first"][starts + 4], parts["second"][starts + 4] = _places(values)
        of_header = np.repeat(_PARTS * np.arange(1, len(keys) + 1), counts) + np.arange(len(pairs))
        parts["kind"][of_header] = librdkafka.HEADER
        parts["first"][of_header], _ = _places(names)
        parts["second"][of_header], parts["third"][of_header] = _places(pairs.field("value"))
        addresses = parts.ctypes.data + starts * parts.itemsize
        messages = zip(addresses.tolist(), (_PARTS + counts).tolist(), strict=True)
        for number, (address, count) in enumerate(messages, first):
            if error := librdkafka.produceva(self._handle, address, count):
                code = librdkafka.error_code(error)
                librdkafka.error_destroy(error)
                self._on_error(DeliveryRefusal(topic, librdkafka.ANY_PARTITION, code, number))
        return first

    def poll(self, timeout_s: float) -> None:
        """Serve callbacks; wait up to `timeout_s` for one."""
        librdkafka.poll(self._handle, round(timeout_s * 1_000))

    def flush(self, timeout_s: float) -> int:
        """Wait up to `timeout_s` until all messages are delivered or refused; return how many are not."""
        librdkafka.flush(self._handle, round(timeout_s * 1_000))
        return len(self)

    def close(self) -> None:
        """Stop the producer and its threads, and drop waiting messages. No method may be called afterwards."""
        self._finalizer()

    def __len__(self) -> int:
        """Return how many messages are neither delivered nor refused; release the kept columns if there are none."""
        waiting = int(librdkafka.queued(self._handle))
        if not waiting:
            self._lent.clear()
        return waiting

    @property
    def held(self) -> int:
        """Number of messages that wait, or that are in kept columns: all columns since the queue was last empty."""
        return max(len(self), sum(map(len, self._lent)))

    def _topic(self, name: str) -> int:
        if name not in self._topics:
            self._topics[name] = librdkafka.topic_new(self._handle, name.encode(), None)
        return self._topics[name]


def _delivered(on_error: OnError, _: int, message: Any, __: int) -> None:
    told = message.contents
    if told.err:
        on_error(
            DeliveryRefusal(librdkafka.topic_name(told.topic).decode(), told.partition, told.err, told.private or 0)
        )


def _places(column: pa.BinaryArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return the address and the length of each value; both are 0 for null."""
    texts = texts_of(column)
    begin = texts.data.ctypes.data if len(texts.data) else _EMPTY
    addresses = np.uint64(begin) + texts.offsets[:-1].astype(np.uint64)
    lengths = np.diff(texts.offsets).astype(np.uint64)
    if column.null_count:
        is_absent = is_null(column)
        addresses[is_absent] = lengths[is_absent] = 0
    return addresses, lengths


def _end(handle: int, topics: Mapping[str, int], _: Any) -> None:
    """Destroy a producer and drop its waiting messages; the last argument keeps callbacks and columns alive for it."""
    for topic in topics.values():
        librdkafka.topic_destroy(topic)
    librdkafka.destroy(handle)
