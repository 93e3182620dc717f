"""Journal: a compacted topic that records who did what with dead letters, and which records were sent back."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import KafkaError, Producer

from orion_beam.errors import UserError
from orion_beam.kafka.admin import admin_client, cluster_metadata, create
from orion_beam.kafka.clients import producer_config
from orion_beam.kafka.offset_ranges import offset_ranges, read_ranges
from orion_beam.kafka.retry import DEADLINE_S
from orion_beam.topics.apply import new_topic
from orion_beam.topics.catalogue import load_catalogue
from orion_beam.topics.names import own_topics, profile_for
from orion_beam.transforms.arrow.texts import to_list

_FLUSH_S = 0.5

Entry = Mapping[str, Any]


def journal_topic() -> str:
    """Return the name of the journal's topic."""
    return own_topics().audit.name


def ensure_journal(bootstrap_servers: str) -> None:
    """Create the journal's topic if it is missing, with the profile that fits the number of brokers.

    Raises:
        PrerequisiteError: The broker cannot be reached.
        UserError: The broker refuses.
    """
    cluster = cluster_metadata(admin_client(bootstrap_servers), bootstrap_servers)
    journal = journal_topic()
    if journal not in cluster.topics:
        topics = load_catalogue().topics_of([], profile_for(len(cluster.brokers)))
        create(bootstrap_servers, [new_topic(topic) for topic in topics if topic.name == journal])


def read_journal(bootstrap_servers: str, prefix: str = "") -> dict[str, Entry]:
    """Return the newest committed entry of each key that begins with `prefix`; skip messages that are not entries.

    Raises:
        PrerequisiteError: The broker cannot be reached, or lacks the topic.
    """
    entries: dict[str, Entry] = {}
    ranges = offset_ranges(bootstrap_servers, [journal_topic()], committed_only=True)
    for batch in read_ranges(bootstrap_servers, ranges, committed_only=True):
        keys, values = to_list(batch.column("raw_key")), to_list(batch.column("raw_value"))
        for key, entry in _entries(zip(keys, values, strict=True)):
            if key.startswith(prefix):
                entries[key] = entry
    return entries


def _entries(messages: Iterator[tuple[bytes | None, bytes | None]]) -> Iterator[tuple[str, Entry]]:
    for key, value in messages:
        try:
            entry = json.loads(value or b"")
            name = (key or b"").decode()
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield name, entry


def entry_bytes(entry: Entry) -> bytes:
    """Encode an entry as JSON, as the topic holds it."""
    return json.dumps(entry, ensure_ascii=False, sort_keys=True).encode()


def write_journal(bootstrap_servers: str, key: str, entry: Entry) -> None:
    """Write one entry; the broker has it when this returns.

    Raises:
        UserError: The broker did not take the entry within DEADLINE_S.
    """
    ensure_journal(bootstrap_servers)
    settings = producer_config(bootstrap_servers, {}) | {"log_level": 0, "message.timeout.ms": round(DEADLINE_S * 1000)}
    failed: list[KafkaError] = []
    journal = journal_topic()
    producer = Producer(settings | {"on_delivery": lambda error, _: failed.append(error)})
    producer.produce(journal, entry_bytes(entry), key.encode())
    # Short calls, so that Ctrl-C takes effect. The deadline is the message's own timeout, which fails its delivery.
    while producer.flush(_FLUSH_S):
        pass
    if failed:
        raise UserError(
            f"Kafka at {bootstrap_servers}: {journal} took no entry within {DEADLINE_S:.0f} s: {failed[0].str()}"
        )
