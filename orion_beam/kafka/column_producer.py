"""A producer that takes columns: an array of messages is made of a column's offsets at once."""

import ctypes
import logging
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException

from orion_beam.kafka import librdkafka
from transforms.compiled import texts_of
from transforms.texts import is_null

OnError = Callable[[str, int, str], None]
"""Takes topic, partition and reason of a message that is refused for good."""

_NOWHERE = ctypes.create_string_buffer(1)
_EMPTY = ctypes.addressof(_NOWHERE)
"""Where a value of no bytes begins. Null is what begins at 0."""


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
        weakref.finalize(self, _end, self._handle, self._topics, kept)

    def produce(self, topic: str, keys: pa.BinaryArray, values: pa.BinaryArray) -> None:
        """Queue messages, in order, each on the partition of its key.

        When a gigabyte waits, which takes large messages, it waits, too.

        Raises:
            KafkaException: one of them cannot be sent, for instance because it is too large; others are on their way.
        """
        messages = np.zeros(len(keys), librdkafka.MESSAGE)
        messages["key"], messages["key_length"] = _places(keys)
        messages["payload"], messages["length"] = _places(values)
        flags = librdkafka.COPY | librdkafka.BLOCK
        taken = librdkafka.produce_batch(
            self._topic(topic), librdkafka.ANY_PARTITION, flags, messages.ctypes.data, len(messages)
        )
        if taken < len(messages):
            errors = messages["err"]
            raise KafkaException(KafkaError(int(errors[errors != 0][0])))

    def poll(self, timeout_s: float) -> None:
        """Serve callbacks; wait for one for so long."""
        librdkafka.poll(self._handle, round(timeout_s * 1_000))

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is delivered or refused, for so long; return how much is not."""
        librdkafka.flush(self._handle, round(timeout_s * 1_000))
        return len(self)

    def __len__(self) -> int:
        """Return how many messages are neither delivered nor refused."""
        return int(librdkafka.queued(self._handle))

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
