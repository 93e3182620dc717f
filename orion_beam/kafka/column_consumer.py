"""Kafka consumer that returns columns: compiled loops copy librdkafka's fetched messages into Arrow buffers."""

import ctypes
import logging
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from orion_beam.kafka import librdkafka
from orion_beam.transforms.arrow.compiled import INT64S, UINT64, UINT64S, Bytes, Offsets, compiled

Addresses = npt.NDArray[np.uint64]
HeaderPair = tuple[str, bytes | None]

_logger = logging.getLogger(__name__)

_WORDS = librdkafka.MESSAGE.itemsize // 8


class FetchedRecords(NamedTuple):
    """Records of one topic, as columns; the records of a partition are in order.

    Attributes:
        timestamps: Epoch milliseconds; a negative value means that the record has no timestamp.
        headers: Headers of each record; None if no record has any.
    """

    partitions: npt.NDArray[np.int32]
    offsets: Offsets
    timestamps: Offsets
    keys: pa.BinaryArray
    values: pa.BinaryArray
    headers: list[list[HeaderPair]] | None


class Event(NamedTuple):
    """Event of a partition that librdkafka reports in place of a record: its end, or an error."""

    error: KafkaError
    topic: str
    partition: int
    offset: int


class Fetched(NamedTuple):
    """Result of one `consume`: records by topic, and events. An event follows the records of its partition."""

    records: Mapping[str, FetchedRecords]
    events: list[Event]


class ColumnConsumer:
    """A librdkafka consumer of assigned partitions. It is a context manager, which closes it.

    Args:
        config: Settings of librdkafka.

    Raises:
        KafkaException: A setting is unknown, or has an invalid value.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Create the consumer; it connects in the background."""
        self._handle, self._kept = librdkafka.new_client(librdkafka.CONSUMER, config, _logger)
        librdkafka.poll_set_consumer(self._handle)
        self._queue = librdkafka.consumer_queue(self._handle)
        self._topics: dict[int, str] = {}
        self._out: Addresses = np.zeros(0, np.uint64)

    def __enter__(self) -> Self:
        """Return the consumer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the consumer. Messages that an interrupt has left are destroyed first, or closing would never end."""
        _destroyed(self._out, _DESTROY)
        librdkafka.consumer_close(self._handle)
        librdkafka.queue_destroy(self._queue)
        librdkafka.destroy(self._handle)

    def assign(self, starts: Mapping[tuple[str, int], int]) -> None:
        """Assign partitions, and start each at its offset.

        Args:
            starts: First offset to read, by topic and partition.

        Raises:
            KafkaException: librdkafka refuses the assignment.
        """
        partitions = _partitions(starts)
        for (topic, partition), offset in starts.items():
            librdkafka.partitions_set_offset(partitions, topic.encode(), partition, offset)
        error = librdkafka.assign(self._handle, partitions)
        librdkafka.partitions_destroy(partitions)
        if error:
            raise KafkaException(KafkaError(error))

    def unassign(self, parts: Iterable[tuple[str, int]]) -> None:
        """Stop reading these partitions.

        Raises:
            KafkaException: A partition is not assigned.
        """
        partitions = _partitions(parts)
        error = librdkafka.incremental_unassign(self._handle, partitions)
        librdkafka.partitions_destroy(partitions)
        if error:
            code = librdkafka.error_code(error)
            librdkafka.error_destroy(error)
            raise KafkaException(KafkaError(code))

    def consume(self, messages: int, timeout_s: float) -> Fetched:
        """Return up to `messages` records and events; fewer if the timeout ends first."""
        # Set before it is filled: Ctrl-C may arrive after any line, and __exit__ must find the messages.
        self._out = np.zeros(messages, np.uint64)
        count = librdkafka.consume_batch(self._queue, round(timeout_s * 1_000), self._out.ctypes.data, messages)
        if count <= 0:
            return Fetched({}, [])
        pointers = self._out[:count]
        try:
            told = _told(pointers).view(librdkafka.MESSAGE)[:, 0]
            is_event = told["err"] != 0
            topics = told["topic"]
            records = {
                self._topic(topic): _records(pointers, told, ~is_event & (topics == topic))
                for topic in np.unique(topics[~is_event]).tolist()
            }
            events = [self._event(*message) for message in told[is_event].tolist()]
        finally:
            _destroyed(pointers, _DESTROY)
        return Fetched(records, events)

    def _event(self, code: int, topic: int, partition: int, payload: int, length: int, *rest: int) -> Event:
        reason = ctypes.string_at(payload, length).decode(errors="replace") if payload else None
        return Event(KafkaError(code, reason), self._topic(topic) if topic else "", partition, rest[2])

    def _topic(self, handle: int) -> str:
        if handle not in self._topics:
            self._topics[handle] = librdkafka.topic_name(handle).decode()
        return self._topics[handle]


def _partitions(parts: Iterable[tuple[str, int]]) -> int:
    listed: int = librdkafka.partitions_new(0)
    for topic, partition in parts:
        librdkafka.partitions_add(listed, topic.encode(), partition)
    return listed


def _records(pointers: Addresses, told: npt.NDArray[Any], is_wanted: npt.NDArray[np.bool_]) -> FetchedRecords:
    """Return the wanted messages, all records of one topic, as columns."""
    if not is_wanted.all():
        pointers, told = pointers[is_wanted], told[is_wanted]
    timestamps, headers = _asked(pointers, _TIMESTAMP, _HEADERS)
    return FetchedRecords(
        told["partition"].astype(np.int32),
        told["offset"].astype(np.int64),
        timestamps,
        _column(told["key"], told["key_length"]),
        _column(told["payload"], told["length"]),
        [_headers(each) for each in headers.tolist()] if headers.any() else None,
    )


def _column(addresses: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> pa.BinaryArray:
    """Copy the bytes at each address into a binary column; address 0 becomes null."""
    places = np.zeros(len(addresses) + 1, np.int64)
    np.cumsum(lengths, out=places[1:])
    data = _copied(addresses.astype(np.uint64), places)
    is_null = addresses == 0
    validity = pa.py_buffer(np.packbits(~is_null, bitorder="little")) if is_null.any() else None
    buffers = [validity, pa.py_buffer(places), pa.py_buffer(data)]
    # The cast raises an error if the data exceeds two gigabytes; it never truncates.
    return pa.Array.from_buffers(pa.large_binary(), len(addresses), buffers).cast(pa.binary())


def _headers(handle: int) -> list[HeaderPair]:
    """Return the headers of a message, in order."""
    found: list[HeaderPair] = []
    name, value, size = ctypes.c_char_p(), ctypes.c_void_p(), ctypes.c_size_t()
    while handle and not librdkafka.header_get_all(handle, len(found), name, value, size):
        text = (name.value or b"").decode(errors="replace")
        found.append((text, None if value.value is None else ctypes.string_at(value.value, size.value)))
    return found


def _as_pointer(_: Any, address: Any) -> Any:
    """Convert an integer address to a pointer, inside a compiled function (numba intrinsic)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001 - numba calls it so
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


def _as_call(_: Any, function: Any, first: Any, second: Any) -> Any:
    """Call a C function at an address with two 64-bit words, inside a compiled function (numba intrinsic).

    The result is a 64-bit word. A C function with one parameter ignores the second word.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001 - numba calls it so
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word, word])
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])

    return types.int64(function, first, second), generate


_pointer: Any = intrinsic(_as_pointer)
_call: Any = intrinsic(_as_call)


@compiled(UINT64S)
def _told(pointers: Addresses) -> npt.NDArray[np.int64]:
    """Copy each rd_kafka_message_t as eight-byte words.

    Args:
        pointers: Address of each message, as `rd_kafka_consume_batch_queue` fills its array.

    Returns:
        An array of `len(pointers)` rows of _WORDS words. `.view(librdkafka.MESSAGE)` gives the fields of the struct.
    """
    words = np.empty((len(pointers), _WORDS), np.int64)
    for row in range(len(pointers)):
        words[row] = carray(_pointer(pointers[row]), (_WORDS,), np.int64)
    return words


@compiled(UINT64S, INT64S)
def _copied(addresses: Addresses, places: Offsets) -> Bytes:
    """Copy byte strings from memory into one buffer, one after the other: `memcpy` for each row.

        addresses   -> "abc"   -> ""   -> "de"
        places      0          3       3          5
        data        a b c d e

    Args:
        addresses: Address of the first byte of each row. The address of an empty row is not read.
        places: Start of each row in the result, and the end of the last row: one more than rows, the first is 0.
    """
    data = np.empty(places[-1], np.uint8)
    for row in range(len(addresses)):
        start, end = places[row], places[row + 1]
        if end > start:
            data[start:end] = carray(_pointer(addresses[row]), (end - start,), np.uint8)
    return data


@compiled(UINT64S, UINT64, UINT64)
def _asked(pointers: Addresses, timestamp: int, headers: int) -> tuple[Offsets, Addresses]:
    """Return the timestamp of each message, and the address of its headers (0 if it has none).

    Args:
        pointers: Address of each rd_kafka_message_t.
        timestamp: Address of the C function `rd_kafka_message_timestamp`.
        headers: Address of the C function `rd_kafka_message_headers`.
    """
    timestamps, found = np.empty(len(pointers), np.int64), np.zeros(len(pointers), np.uint64)
    for row in range(len(pointers)):
        timestamps[row] = _call(timestamp, pointers[row], np.uint64(0))
        # The C function writes the headers' address to found[row]. Its error code is the lower 32 bits of the word.
        code = _call(headers, pointers[row], np.uint64(found.ctypes.data) + np.uint64(8 * row))
        if code & 0xFFFFFFFF:
            found[row] = 0
    return timestamps, found


@compiled(types.Array(types.uint64, 1, "C"), UINT64)
def _destroyed(pointers: Addresses, destroy: int) -> None:
    """Destroy messages, and set their addresses to 0, so that none is destroyed twice. Addresses of 0 are skipped.

    Args:
        pointers: Address of each rd_kafka_message_t; changed in place.
        destroy: Address of the C function `rd_kafka_message_destroy`.
    """
    for row in range(len(pointers)):
        if pointers[row]:
            _call(destroy, pointers[row], np.uint64(0))
            pointers[row] = 0


_TIMESTAMP, _HEADERS, _DESTROY = (
    librdkafka.address_of(function)
    for function in (librdkafka.message_timestamp, librdkafka.message_headers, librdkafka.message_destroy)
)
