"""ctypes bindings of librdkafka's C functions for many messages at once, as rdkafka.h declares them.

confluent-kafka takes one message per call, with a Python object for each key and value. That costs more than sending or
fetching the message. The librdkafka inside confluent-kafka has public functions for arrays of messages.
"""

import ctypes
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from confluent_kafka import KafkaError, KafkaException, cimpl


class Message(ctypes.Structure):
    """The struct rd_kafka_message_t. Its pointers are integers here, so that numpy can fill and read arrays of it."""

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


MESSAGE = np.dtype(Message)

VARIABLE = np.dtype(
    {
        "names": ["kind", "first", "second", "third"],
        "formats": [np.int32, np.uint64, np.uint64, np.int64],
        "offsets": [0, 8, 16, 24],
        "itemsize": 72,
    }
)
"""The struct rd_kafka_vu_t: one part of a message. The fields depend on the kind of the part.

    kind                    first                   second              third
    TOPIC, FLAGS, OPAQUE    number or handle
    KEY, VALUE              address of the bytes    number of bytes
    HEADER                  address of the name     address of bytes    number of bytes
"""

TOPIC, VALUE, KEY, OPAQUE, FLAGS, HEADER = 2, 4, 5, 6, 7, 9
"""Kinds of parts (rd_kafka_vtype_t)."""

PRODUCER, CONSUMER = 0, 1
ANY_PARTITION = -1
COPY, BLOCK = 0x2, 0x4

_CONF_OK = 0
_ERROR_BYTES = 512
_LEVELS = (*[logging.CRITICAL] * 3, logging.ERROR, logging.WARNING, logging.INFO, logging.INFO, logging.DEBUG)
"""Level of `logging` for each syslog level, which librdkafka uses."""

DeliveryCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Message), ctypes.c_void_p)
_LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)
_ErrorCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)

# Symbols are looked up in the extension and in the libraries that it links: this finds confluent-kafka's librdkafka.
_library = ctypes.CDLL(cimpl.__file__)


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_library, f"rd_kafka_{name}")
    function.restype, function.argtypes = result, arguments
    return function


_HANDLE, _TEXT, _INT, _INT32 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int32

_conf_new = _function("conf_new", _HANDLE)
_conf_destroy = _function("conf_destroy", None, _HANDLE)
_conf_set = _function("conf_set", _INT, _HANDLE, _TEXT, _TEXT, _TEXT, ctypes.c_size_t)
_conf_set_delivery = _function("conf_set_dr_msg_cb", None, _HANDLE, DeliveryCallback)
_conf_set_log = _function("conf_set_log_cb", None, _HANDLE, _LogCallback)
_conf_set_error = _function("conf_set_error_cb", None, _HANDLE, _ErrorCallback)
_new = _function("new", _HANDLE, _INT, _HANDLE, _TEXT, ctypes.c_size_t)
_set_log_queue = _function("set_log_queue", _INT, _HANDLE, _HANDLE)
destroy = _function("destroy", None, _HANDLE)
reason_of = _function("err2str", _TEXT, _INT)

topic_new = _function("topic_new", _HANDLE, _HANDLE, _TEXT, _HANDLE)
topic_name = _function("topic_name", _TEXT, _HANDLE)
topic_destroy = _function("topic_destroy", None, _HANDLE)

produceva = _function("produceva", _HANDLE, _HANDLE, _HANDLE, ctypes.c_size_t)
error_code = _function("error_code", _INT, _HANDLE)
error_destroy = _function("error_destroy", None, _HANDLE)
produce_batch = _function("produce_batch", _INT, _HANDLE, _INT32, _INT, _HANDLE, _INT)
poll = _function("poll", _INT, _HANDLE, _INT)
flush = _function("flush", _INT, _HANDLE, _INT)
queued = _function("outq_len", _INT, _HANDLE)

poll_set_consumer = _function("poll_set_consumer", _INT, _HANDLE)
consumer_queue = _function("queue_get_consumer", _HANDLE, _HANDLE)
queue_destroy = _function("queue_destroy", None, _HANDLE)
consume_batch = _function("consume_batch_queue", ctypes.c_ssize_t, _HANDLE, _INT, _HANDLE, ctypes.c_size_t)
consumer_close = _function("consumer_close", _INT, _HANDLE)
assign = _function("assign", _INT, _HANDLE, _HANDLE)
incremental_unassign = _function("incremental_unassign", _HANDLE, _HANDLE, _HANDLE)
partitions_new = _function("topic_partition_list_new", _HANDLE, _INT)
partitions_add = _function("topic_partition_list_add", _HANDLE, _HANDLE, _TEXT, _INT32)
partitions_set_offset = _function("topic_partition_list_set_offset", _INT, _HANDLE, _TEXT, _INT32, ctypes.c_int64)
partitions_destroy = _function("topic_partition_list_destroy", None, _HANDLE)

message_timestamp = _function("message_timestamp", ctypes.c_int64, _HANDLE, _HANDLE)
message_headers = _function("message_headers", _INT, _HANDLE, _HANDLE)
message_destroy = _function("message_destroy", None, _HANDLE)
header_get_all = _function(
    "header_get_all", _INT, _HANDLE, ctypes.c_size_t, ctypes.POINTER(_TEXT), ctypes.POINTER(_HANDLE),
    ctypes.POINTER(ctypes.c_size_t),
)  # fmt: skip


def address_of(function: Any) -> int:
    """Return the address of a C function, for compiled loops that call it."""
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


def check_settings(config: Mapping[str, Any]) -> None:
    """Check that librdkafka knows these settings and accepts their values.

    Raises:
        KafkaException: A setting is unknown, or has an invalid value; names the setting.
    """
    _conf_destroy(_configured(config))


def new_client(
    kind: int, config: Mapping[str, Any], logger: logging.Logger, delivered: Any = None
) -> tuple[int, tuple[Any, ...]]:
    """Create a producer or a consumer.

    Args:
        kind: PRODUCER or CONSUMER.
        config: Settings of librdkafka.
        logger: Gets librdkafka's log lines when the client is polled.
        delivered: A DeliveryCallback, or None.

    Returns:
        The client's handle, and the callbacks, which the caller must keep as long as the client lives.

    Raises:
        KafkaException: A setting is unknown, or has an invalid value.
    """
    # Log lines wait in a queue until the client is polled, so that librdkafka's own threads never wait for Python.
    conf = _configured({**config, "log.queue": True})
    # The error callback does nothing: librdkafka also logs errors that concern no message (a broker that is down).
    log, error = _LogCallback(partial(_log, logger)), _ErrorCallback(lambda *_: None)
    _conf_set_log(conf, log)
    _conf_set_error(conf, error)
    if delivered is not None:
        _conf_set_delivery(conf, delivered)
    text = ctypes.create_string_buffer(_ERROR_BYTES)
    handle = _new(kind, conf, text, _ERROR_BYTES)
    if not handle:
        _conf_destroy(conf)
        raise _refused(text)
    _set_log_queue(handle, None)
    return handle, (log, error, delivered)


def _configured(config: Mapping[str, Any]) -> int:
    conf: int = _conf_new()
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    for name, value in config.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if _conf_set(conf, name.encode(), text.encode(), error, _ERROR_BYTES) != _CONF_OK:
            _conf_destroy(conf)
            raise _refused(error)
    return conf


def _log(logger: logging.Logger, _: int, level: int, facility: bytes, text: bytes) -> None:
    logger.log(_LEVELS[level], "%s %s", facility.decode(), text.decode(errors="replace"))


def _refused(error: "ctypes.Array[ctypes.c_char]") -> KafkaException:
    return KafkaException(KafkaError(KafkaError._INVALID_ARG, error.value.decode(errors="replace")))
