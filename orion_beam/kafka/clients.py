"""Kafka client settings: the defaults that keep every record, and refusal of those that lose some."""

from collections.abc import Mapping

from confluent_kafka import KafkaException

from orion_beam.errors import UserError
from orion_beam.kafka.librdkafka import check_settings
from orion_beam.kafka.login import java_settings, login_settings

CONSUMER_DEFAULTS = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": "false",
    # A redrive that was killed leaves records of a transaction that is aborted: they are sent again.
    "isolation.level": "read_committed",
    # A frame takes what several polls brought; what one brings lies in the JVM as objects until it is copied.
    "max.poll.records": "2048",
    "session.timeout.ms": "30000",
    # A fetch for each record that arrives would keep the broker busier than the records do.
    "fetch.min.bytes": "65536",
    "fetch.max.wait.ms": "20",
    # What is fetched ahead lies in the JVM until Python is ready for it, and costs its garbage collector: a consumer
    # holds two of these at most.
    "fetch.max.bytes": "2097152",
    # A frame is to hold records of many partitions, for it is written to the same ones: librdkafka sends a partition
    # at most 1 MiB at a time, and while it waits for that to be acknowledged its thread spins if there is more to send.
    "max.partition.fetch.bytes": "262144",
}
"""Of the Java consumer inside the batched Kafka read."""

PRODUCER_DEFAULTS: dict[str, str | int | bool] = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "snappy",
    # What a Java client's default partitioner does with a key.
    "partitioner": "murmur2_random",
    "linger.ms": 10,
    "batch.size": 1 << 20,
    "max.in.flight.requests.per.connection": 5,
    # A dead letter is a message of up to 1 MiB and its headers.
    "message.max.bytes": 2 << 20,
    # Our own bound on what is under way, in orion_beam/kafka/write.py, is lower: only large messages fill the queue.
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 1 << 20,
    # An outage of the broker holds the bundle back for as long as it lasts; it never drops a record.
    "message.timeout.ms": 0,
    # Successes are known by the queue running empty; only errors call back into Python.
    "delivery.report.only.error": True,
}
"""Of the librdkafka producer."""

# librdkafka reads booleans in several spellings.
_FALSE = {"false", "f", "0"}

_LOSSY_CONSUMER = {
    "enable.auto.commit": ({"true"}, "records would be committed before they are processed, and lost on a restart"),
    "auto.offset.reset": ({"latest"}, "records that arrive before the first commit would be skipped"),
}
_LOSSY_PRODUCER = {
    "acks": ({"0", "1"}, "a record could be lost with its leader"),
    "request.required.acks": ({"0", "1"}, "a record could be lost with its leader"),
    "enable.idempotence": (_FALSE, "a retry could write a record twice or out of order"),
    "delivery.report.only.error": (_FALSE, "it is what the writer counts on"),
}


def consumer_config(bootstrap_servers: str, group_id: str, overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the Java consumer.

    Raises:
        UserError: an override is known to lose records; names it, why, and the fix. Or see `login_settings`.
    """
    _refuse_lossy("consumer", overrides, _LOSSY_CONSUMER)
    settings = CONSUMER_DEFAULTS | java_settings(login_settings()) | dict(overrides)
    return settings | {"bootstrap.servers": bootstrap_servers, "group.id": group_id}


def producer_config(bootstrap_servers: str, overrides: Mapping[str, str]) -> dict[str, str | int | bool]:
    """Return the settings of the librdkafka producer.

    Raises:
        UserError: an override is known to lose records, or librdkafka does not know it; names it, why, and the fix. Or
            see `login_settings`.
    """
    _refuse_lossy("producer", overrides, _LOSSY_PRODUCER)
    settings = PRODUCER_DEFAULTS | login_settings() | dict(overrides) | {"bootstrap.servers": bootstrap_servers}
    try:
        check_settings(settings)
    except KafkaException as error:
        raise UserError(f"producer settings: {error.args[0].str()}: leave it out, or mend it") from None
    return settings


def _refuse_lossy(kind: str, overrides: Mapping[str, str], lossy: Mapping[str, tuple[set[str], str]]) -> None:
    for name, (values, why) in lossy.items():
        if (value := overrides.get(name, "").strip().lower()) in values:
            raise UserError(f"{kind} setting {name}={value} is refused: {why}; leave it out")
