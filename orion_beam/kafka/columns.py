"""A producer that takes columns: librdkafka's call for many messages, on Arrow's buffers.

confluent-kafka takes a message a call, and a Python object for each key and value; that costs more than to send them.
The library that it comes with has a public call for arrays of messages (`rd_kafka_produce_batch`, rdkafka.h), and an
array of messages is made of a column's offsets at once.
"""

import ctypes
import logging
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, cimpl

OnError = Callable[[str, int, str], None]
"""Takes topic, partition and reason of a message that is refused for good."""


class _Message(ctypes.Structure):
    """rd_kafka_message_t."""

    _fields_ = (
        ("err", ctypes.c_int32),
        ("topic", ctypes.c_size_t),
        ("partition", ctypes.c_int32),
        ("payload", ctypes.c_size_t),
        ("length", ctypes.c_size_t),
        ("key", ctypes.c_size_t),
        ("key_length", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
        ("private", ctypes.c_size_t),
    )


_MESSAGE = np.dtype(_Message)
_NOWHERE = ctypes.create_string_buffer(1)
_EMPTY = ctypes.addressof(_NOWHERE)
"""Where a value of no bytes begins. Null is what begins at 0."""

_PRODUCER = 0
_CONF_OK = 0
_ANY_PARTITION = -1
# The queue is full of large messages when a gigabyte waits: the call waits, too, and so keeps the order.
_COPY, _BLOCK = 0x2, 0x4
_ERROR_BYTES = 512
_LEVELS = (*[logging.CRITICAL] * 3, logging.ERROR, logging.WARNING, logging.INFO, logging.INFO, logging.DEBUG)
"""Of syslog's, which librdkafka has."""

_DeliveryCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(_Message), ctypes.c_void_p)
_LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)

# A handle of the extension finds what the libraries hold that it is linked to: the very librdkafka that it uses.
_library = ctypes.CDLL(cimpl.__file__)


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_library, name)
    function.restype, function.argtypes = result, arguments
    return function


_HANDLE, _TEXT, _INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_conf_new = _function("rd_kafka_conf_new", _HANDLE)
_conf_destroy = _function("rd_kafka_conf_destroy", None, _HANDLE)
_conf_set = _function("rd_kafka_conf_set", _INT, _HANDLE, _TEXT, _TEXT, _TEXT, ctypes.c_size_t)
_conf_set_delivery = _function("rd_kafka_conf_set_dr_msg_cb", None, _HANDLE, _DeliveryCallback)
_conf_set_log = _function("rd_kafka_conf_set_log_cb", None, _HANDLE, _LogCallback)
_new = _function("rd_kafka_new", _HANDLE, _INT, _HANDLE, _TEXT, ctypes.c_size_t)
_destroy = _function("rd_kafka_destroy", None, _HANDLE)
_set_log_queue = _function("rd_kafka_set_log_queue", _INT, _HANDLE, _HANDLE)
_topic_new = _function("rd_kafka_topic_new", _HANDLE, _HANDLE, _TEXT, _HANDLE)
_topic_name = _function("rd_kafka_topic_name", _TEXT, _HANDLE)
_topic_destroy = _function("rd_kafka_topic_destroy", None, _HANDLE)
_produce_batch = _function("rd_kafka_produce_batch", _INT, _HANDLE, ctypes.c_int32, _INT, _HANDLE, _INT)
_poll = _function("rd_kafka_poll", _INT, _HANDLE, _INT)
_flush = _function("rd_kafka_flush", _INT, _HANDLE, _INT)
_queued = _function("rd_kafka_outq_len", _INT, _HANDLE)
_reason = _function("rd_kafka_err2str", _TEXT, _INT)


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
        conf = _configured(config)
        # They must live as long as librdkafka may call them, and must not keep this producer alive.
        callbacks = _DeliveryCallback(partial(_delivered, on_error)), _LogCallback(partial(_log, logger))
        _conf_set_delivery(conf, callbacks[0])
        _conf_set_log(conf, callbacks[1])
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        self._handle = _new(_PRODUCER, conf, error, _ERROR_BYTES)
        if not self._handle:
            _conf_destroy(conf)
            raise _refused(error)
        _set_log_queue(self._handle, None)
        self._topics: dict[str, int] = {}
        weakref.finalize(self, _end, self._handle, self._topics, callbacks)

    def produce(self, topic: str, keys: pa.BinaryArray, values: pa.BinaryArray) -> None:
        """Queue messages, in order, each on the partition of its key.

        Raises:
            KafkaException: one of them cannot be sent, for instance because it is too large; others are on their way.
        """
        messages = np.zeros(len(keys), _MESSAGE)
        messages["key"], messages["key_length"] = _places(keys)
        messages["payload"], messages["length"] = _places(values)
        taken = _produce_batch(self._topic(topic), _ANY_PARTITION, _COPY | _BLOCK, messages.ctypes.data, len(messages))
        if taken < len(messages):
            errors = messages["err"]
            raise KafkaException(KafkaError(int(errors[errors != 0][0])))

    def poll(self, timeout_s: float) -> None:
        """Serve callbacks; wait for one for so long."""
        _poll(self._handle, round(timeout_s * 1_000))

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is delivered or refused, for so long; return how much is not."""
        _flush(self._handle, round(timeout_s * 1_000))
        return len(self)

    def __len__(self) -> int:
        """Return how many messages are neither delivered nor refused."""
        return int(_queued(self._handle))

    def _topic(self, name: str) -> int:
        if name not in self._topics:
            self._topics[name] = _topic_new(self._handle, name.encode(), None)
        return self._topics[name]


def check_settings(config: Mapping[str, Any]) -> None:
    """Check that librdkafka knows these settings, and takes their values.

    Raises:
        KafkaException: it does not; says which.
    """
    _conf_destroy(_configured(config))


def _configured(config: Mapping[str, Any]) -> int:
    conf: int = _conf_new()
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    # Logs wait until they are asked for: librdkafka's own threads never wait for Python.
    for name, value in {**config, "log.queue": True}.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if _conf_set(conf, name.encode(), text.encode(), error, _ERROR_BYTES) != _CONF_OK:
            _conf_destroy(conf)
            raise _refused(error)
    return conf


def _delivered(on_error: OnError, _: int, message: Any, __: int) -> None:
    told = message.contents
    if told.err:
        on_error(_topic_name(told.topic).decode(), told.partition, _reason(told.err).decode())


def _log(logger: logging.Logger, _: int, level: int, facility: bytes, text: bytes) -> None:
    logger.log(_LEVELS[level], "%s %s", facility.decode(), text.decode(errors="replace"))


def _places(column: pa.BinaryArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return where the bytes of each value are, and how many."""
    validity, places, data = column.buffers()
    offsets = np.frombuffer(places, np.int32)[column.offset : column.offset + len(column) + 1]
    begin = data.address if data is not None and data.size else _EMPTY
    addresses = np.uint64(begin) + offsets[:-1].astype(np.uint64)
    lengths = np.diff(offsets).astype(np.uint64)
    if validity is not None and column.null_count:
        is_null = column.is_null().to_numpy(zero_copy_only=False)
        addresses[is_null] = lengths[is_null] = 0
    return addresses, lengths


def _refused(error: "ctypes.Array[ctypes.c_char]") -> KafkaException:
    return KafkaException(KafkaError(KafkaError._INVALID_ARG, error.value.decode(errors="replace")))


def _end(handle: int, topics: Mapping[str, int], _: Any) -> None:
    """End a producer; what it still holds is dropped, and its callbacks live until then."""
    for topic in topics.values():
        _topic_destroy(topic)
    _destroy(handle)
