"""A producer that takes columns: messages are made of the columns' offsets at once."""

import ctypes
import logging
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import KafkaError, KafkaException

from orion_beam.kafka import librdkafka
from transforms.compiled import texts_of
from transforms.texts import is_null, lengths_of

OnError = Callable[[str, int, str], None]
"""Takes topic, partition and reason of a message that is refused for good."""

_NOWHERE = ctypes.create_string_buffer(1)
_EMPTY = ctypes.addressof(_NOWHERE)
"""Where a value of no bytes begins. Null is what begins at 0."""

_PARTS = 4
"""Of a message, but for its headers: topic, flags, key and value."""


class ColumnProducer:
    """A librdkafka producer. What goes to a partition keeps its order.

    Args:
        config: librdkafka's settings; `delivery.report.only.error` should be one of them.
        on_error: called by `poll` and `flush` for each message that is refused for good.
        logger: gets what librdkafka logs, by `poll` and `flush`.

    Raises:
        KafkaException: there is no such setting, or a value does not fit.
    """

    def __init__(self, config: Mapping[str, Any], on_error: OnError, logger: logging.Logger) -> None:
        """Make the producer; it connects in the background."""
        # The callback must not keep this producer alive.
        delivered = librdkafka.DeliveryCallback(partial(_delivered, on_error))
        self._handle, kept = librdkafka.new_client(librdkafka.PRODUCER, config, logger, delivered)
        self._topics: dict[str, int] = {}
        self._lent: list[pa.BinaryArray] = []
        self._finalizer = weakref.finalize(self, _end, self._handle, self._topics, (kept, self._lent))

    def produce(
        self, topic: str, keys: pa.BinaryArray, values: pa.BinaryArray, headers: pa.ListArray | None = None
    ) -> None:
        """Queue messages, in order, each on the partition of its key.

        When a gigabyte waits, which takes large messages, it waits, too. Without headers, values are not copied: their
        column is kept, see `held`.

        Args:
            topic: where to.
            keys: of the messages.
            values: of the messages.
            headers: of each message, structs of `key` (text) and `value` (bytes).

        Raises:
            KafkaException: one of them cannot be sent, for instance because it is too large; others are on their way.
        """
        if headers is not None:
            self._produce_one_by_one(topic, keys, values, headers)
            return
        messages = np.zeros(len(keys), librdkafka.MESSAGE)
        messages["key"], messages["key_length"] = _places(keys)
        messages["payload"], messages["length"] = _places(values)
        self._lent.append(values)
        taken = librdkafka.produce_batch(
            self._topic(topic), librdkafka.ANY_PARTITION, librdkafka.BLOCK, messages.ctypes.data, len(messages)
        )
        if taken < len(messages):
            errors = messages["err"]
            raise KafkaException(KafkaError(int(errors[errors != 0][0])))

    def _produce_one_by_one(
        self, topic: str, keys: pa.BinaryArray, values: pa.BinaryArray, headers: pa.ListArray
    ) -> None:
        """Queue messages with headers: librdkafka takes them one by one, but their parts are made at once."""
        pairs, counts = headers.flatten(), lengths_of(headers)
        # Names are C's strings.
        names = pc.binary_join_element_wise(pairs.field("key"), "", "\0").cast(pa.binary())
        parts = np.zeros(_PARTS * len(keys) + len(pairs), librdkafka.VARIABLE)
        ends = np.cumsum(_PARTS + counts)
        starts = ends - counts - _PARTS
        for place, kind in enumerate((librdkafka.TOPIC, librdkafka.FLAGS, librdkafka.KEY, librdkafka.VALUE)):
            parts["kind"][starts + place] = kind
        parts["first"][starts] = self._topic(topic)
        parts["first"][starts + 1] = librdkafka.COPY | librdkafka.BLOCK
        parts["first"][starts + 2], parts["second"][starts + 2] = _places(keys)
        parts["first"][starts + 3], parts["second"][starts + 3] = _places(values)
        of_header = np.repeat(_PARTS * np.arange(1, len(keys) + 1), counts) + np.arange(len(pairs))
        parts["kind"][of_header] = librdkafka.HEADER
        parts["first"][of_header], _ = _places(names)
        parts["second"][of_header], parts["third"][of_header] = _places(pairs.field("value"))
        addresses = parts.ctypes.data + starts * parts.itemsize
        for address, count in zip(addresses.tolist(), (_PARTS + counts).tolist(), strict=True):
            if error := librdkafka.produceva(self._handle, address, count):
                code = librdkafka.error_code(error)
                librdkafka.error_destroy(error)
                raise KafkaException(KafkaError(code))

    def poll(self, timeout_s: float) -> None:
        """Serve callbacks; wait for one for so long."""
        librdkafka.poll(self._handle, round(timeout_s * 1_000))

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is delivered or refused, for so long; return how much is not."""
        librdkafka.flush(self._handle, round(timeout_s * 1_000))
        return len(self)

    def close(self) -> None:
        """End the producer and its threads; what it still holds is dropped. Nothing may be called afterwards."""
        self._finalizer()

    def __len__(self) -> int:
        """Return how many messages are neither delivered nor refused; without any, no column is kept any more."""
        waiting = int(librdkafka.queued(self._handle))
        if not waiting:
            self._lent.clear()
        return waiting

    @property
    def held(self) -> int:
        """Messages that wait, or whose values librdkafka may still read: of all columns since nothing waited."""
        return max(len(self), sum(map(len, self._lent)))

    def _topic(self, name: str) -> int:
        if name not in self._topics:
            self._topics[name] = librdkafka.topic_new(self._handle, name.encode(), None)
        return self._topics[name]


def _delivered(on_error: OnError, _: int, message: Any, __: int) -> None:
    told = message.contents
    if told.err:
        reason = librdkafka.reason_of(told.err).decode()
        on_error(librdkafka.topic_name(told.topic).decode(), told.partition, reason)


def _places(column: pa.BinaryArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return where the bytes of each value are, and how many."""
    texts = texts_of(column)
    begin = texts.data.ctypes.data if len(texts.data) else _EMPTY
    addresses = np.uint64(begin) + texts.offsets[:-1].astype(np.uint64)
    lengths = np.diff(texts.offsets).astype(np.uint64)
    if column.null_count:
        is_absent = is_null(column)
        addresses[is_absent] = lengths[is_absent] = 0
    return addresses, lengths


def _end(handle: int, topics: Mapping[str, int], _: Any) -> None:
    """End a producer; what it still holds is dropped, and its callbacks live until then."""
    for topic in topics.values():
        librdkafka.topic_destroy(topic)
    librdkafka.destroy(handle)
