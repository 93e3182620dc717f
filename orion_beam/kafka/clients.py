"""Settings of Kafka clients: defaults that keep every record, and checks that refuse settings that lose some."""

import csv
import difflib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from confluent_kafka import KafkaException

from orion_beam.errors import UserError
from orion_beam.kafka import CONSUMER_PREFIX, SECRETS
from orion_beam.kafka.librdkafka import check_settings
from orion_beam.kafka.login import consumer_settings, java_settings, login_settings

CONSUMER_DEFAULTS = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": "false",
    # A killed redrive leaves records of an aborted transaction, and sends them again: only these may be read.
    "isolation.level": "read_committed",
    # A frame joins the records of several polls. Records are JVM objects until they are copied, so a poll is small.
    "max.poll.records": "2048",
    "session.timeout.ms": "30000",
    # Without a minimum, the consumer would send a fetch request for each record that arrives.
    "fetch.min.bytes": "65536",
    "fetch.max.wait.ms": "20",
    # Records that are fetched ahead stay in the JVM until Python is ready for them, and load its garbage collector. A
    # consumer holds two fetches at most.
    "fetch.max.bytes": "2097152",
    # Small, so that a frame has records of many partitions: the output goes to the same partition numbers. librdkafka
    # sends a partition at most 1 MiB at a time. Until the broker acknowledges it, its thread spins if more is waiting.
    "max.partition.fetch.bytes": "262144",
}
"""Default settings of the Java consumer inside the batched Kafka read."""

PRODUCER_DEFAULTS: dict[str, str | int | bool] = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "snappy",
    # Puts a key in the same partition as the default partitioner of a Java client.
    "partitioner": "murmur2_random",
    "linger.ms": 10,
    "batch.size": 1 << 20,
    "max.in.flight.requests.per.connection": 5,
    # A dead letter is a message of up to 1 MiB and its headers.
    "message.max.bytes": 2 << 20,
    # MAX_IN_FLIGHT in orion_beam/io/kafka_sink.py is lower than this, so only large messages fill the queue.
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 1 << 20,
    # No timeout: while the broker is down, the bundle waits, and no record is dropped.
    "message.timeout.ms": 0,
    # An empty queue shows that all is delivered; only errors call back into Python.
    "delivery.report.only.error": True,
}
"""Default settings of the librdkafka producer."""

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

_CONSUMER_SETTINGS = Path(__file__).with_name("known_consumer_settings.csv")
_FREE_PREFIXES = ("config.providers.",)
"""Prefixes of settings whose names the user makes up."""

_WHOLE_NUMBER = (re.compile(r"[+-]?[0-9]{1,19}"), "a whole number")
_FORMS = {
    "boolean": (re.compile(r"true|false", re.IGNORECASE), "true or false"),
    "int": _WHOLE_NUMBER,
    "short": _WHOLE_NUMBER,
    "long": _WHOLE_NUMBER,
    "double": (re.compile(r"[+-]?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?"), "a number"),
}
"""Regular expression for values of each setting type, and its name in error messages."""


def consumer_config(bootstrap_servers: str, group_id: str, overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the Java consumer, with references in place of secrets.

    Raises:
        UserError: An override is known to lose records, is a secret, or is unknown to the consumer; names the setting,
            the reason and the fix. Also as `login_settings`.
    """
    _refuse_secrets("consumer", overrides)
    _refuse_lossy("consumer", overrides, _LOSSY_CONSUMER)
    own = consumer_settings() | dict(overrides)
    for name, value in own.items():
        _check_consumer_setting(name, value)
    settings = CONSUMER_DEFAULTS | java_settings(login_settings(), consumer_settings()) | dict(overrides)
    return settings | {"bootstrap.servers": bootstrap_servers, "group.id": group_id}


def producer_config(bootstrap_servers: str, overrides: Mapping[str, str]) -> dict[str, str | int | bool]:
    """Return the settings of the librdkafka producer, with those of the login.

    Raises:
        UserError: As `job_producer_config`.
    """
    return login_settings() | job_producer_config(bootstrap_servers, overrides)


def job_producer_config(bootstrap_servers: str, overrides: Mapping[str, str]) -> dict[str, str | int | bool]:
    """Return the settings of a job's producers without those of the login, which workers add where they run.

    Raises:
        UserError: An override is known to lose records, is a secret, or is unknown to librdkafka; names the setting,
            the reason and the fix. Also as `login_settings`.
    """
    _refuse_secrets("producer", overrides)
    _refuse_lossy("producer", overrides, _LOSSY_PRODUCER)
    settings = PRODUCER_DEFAULTS | dict(overrides) | {"bootstrap.servers": bootstrap_servers}
    try:
        check_settings(login_settings() | settings)
    except KafkaException as error:
        raise UserError(f"producer settings: {error.args[0].str()}: leave it out, or mend it") from None
    return settings


@cache
def known_consumer_settings() -> Mapping[str, str]:
    """Return the type (boolean, int, long, double, string, list, …) of each setting of the Java consumer."""
    with _CONSUMER_SETTINGS.open(newline="") as file:
        return {row["name"]: row["type"] for row in csv.DictReader(file)}


def _check_consumer_setting(name: str, value: str) -> None:
    """Refuse a setting that the Java consumer would ignore, or that would stop the job."""
    known = known_consumer_settings()
    if name not in known and not name.startswith(_FREE_PREFIXES):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "see Kafka's documentation of consumer configs"
        raise UserError(f"consumer setting {name}: Kafka's Java consumer has no such setting; {hint}")
    form = _FORMS.get(known.get(name, ""))
    if form is not None and not form[0].fullmatch(value.strip()):
        raise UserError(f"consumer setting {name}: expected {form[1]}")


def _refuse_secrets(kind: str, overrides: Mapping[str, str]) -> None:
    for name in overrides:
        if name.lower().endswith(SECRETS):
            where = f"{CONSUMER_PREFIX}{name}" if kind == "consumer" else name
            raise UserError(
                f"{kind} setting {name} is refused on the command line, where everybody on this machine could read it:"
                f" write {where}=… into the file that --kafka-config, or ORION_KAFKA_CONFIG in the environment, names"
            )


def _refuse_lossy(kind: str, overrides: Mapping[str, str], lossy: Mapping[str, tuple[set[str], str]]) -> None:
    for name, (values, why) in lossy.items():
        if (value := overrides.get(name, "").strip().lower()) in values:
            raise UserError(f"{kind} setting {name}={value} is refused: {why}; leave it out")
