"""Small topics of JSON entries, which commands read as a whole: who did what, and when."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import KafkaError, Producer

from orion_beam.errors import UserError
from orion_beam.kafka.clients import producer_config
from orion_beam.kafka.offset_ranges import offset_ranges, read_ranges
from orion_beam.kafka.retry import DEADLINE_S
from orion_beam.transforms.arrow.texts import to_list

_FLUSH_S = 0.5

Entry = Mapping[str, Any]


def read_entries(bootstrap_servers: str, topic: str) -> Iterator[tuple[str, Entry]]:
    """Yield key and value of the committed entries of a topic, in order; skip messages that are not entries.

    Raises:
        PrerequisiteError: The broker cannot be reached, or lacks the topic.
    """
    ranges = offset_ranges(bootstrap_servers, [topic], committed_only=True)
    for batch in read_ranges(bootstrap_servers, ranges, committed_only=True):
        keys, values = to_list(batch.column("raw_key")), to_list(batch.column("raw_value"))
        yield from _entries(zip(keys, values, strict=True))


def _entries(messages: Iterator[tuple[bytes | None, bytes | None]]) -> Iterator[tuple[str, Entry]]:
    for key, value in messages:
        try:
            entry = json.loads(value or b"")
            name = (key or b"").decode()
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield name, entry


def entry_bytes(entry: Entry) -> bytes:
    """Encode an entry as JSON, as the topic holds it."""
    return json.dumps(entry, ensure_ascii=False, sort_keys=True).encode()


def write_entry(bootstrap_servers: str, topic: str, key: str, entry: Entry) -> None:
    """Write one entry; the broker has it when this returns.

    Raises:
        UserError: The broker did not take the entry within DEADLINE_S.
    """
    settings = producer_config(bootstrap_servers, {}) | {"log_level": 0, "message.timeout.ms": round(DEADLINE_S * 1000)}
    failed: list[KafkaError] = []
    producer = Producer(settings | {"on_delivery": lambda error, _: failed.append(error)})
    producer.produce(topic, entry_bytes(entry), key.encode())
    # Short calls, so that Ctrl-C takes effect. The deadline is the message's own timeout, which fails its delivery.
    while producer.flush(_FLUSH_S):
        pass
    if failed:
        raise UserError(
            f"Kafka at {bootstrap_servers}: {topic} took no entry within {DEADLINE_S:.0f} s: {failed[0].str()}"
        )
