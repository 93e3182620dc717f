"""Dead letters on a real topic, as a job writes them, for tests of the dead-letter commands."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

from confluent_kafka import Producer

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import all_profiles
from orion_beam.kafka.admin import create
from orion_beam.testing import raw_batch
from orion_beam.topics.apply import new_topic
from orion_beam.topics.catalogue import Topic
from tests.letters import Message, messages_from

REST = b'"msisdn":"+33612345678","event_type":"data","timestamp":"2026-06-01T10:00:00Z"}'
_offsets = count(0, 100_000)
"""First source offset of each call of `letters_from`. A redrive tells records apart by their source, so that two calls
must not share one."""

BROKEN_RAT = b'{"imsi":"208010000%06d","rat":"6G",' + REST
BROKEN_IMSI = b'{"imsi":"x%d",' + REST


def letter_topic(servers: str, name: str, partitions: int = 2) -> str:
    """Create a topic for dead letters, and return its name."""
    create(servers, [new_topic(Topic(name, partitions, 1, {"retention.ms": "-1"}))])
    return name


def letters_from(
    country: str,
    payloads: Sequence[bytes | None],
    *,
    timestamp: datetime | None = None,
    partition: int = 3,
    attempt: int = 1,
    **options: Any,
) -> list[Message]:
    """Return the dead letters that the chain makes of payloads; the chain must reject all of them."""
    options.setdefault("first_offset", next(_offsets))
    headers = [{"trace": b"%d" % number, "orion.attempt": b"%d" % attempt} for number, _ in enumerate(payloads)]
    batch = raw_batch(
        country,
        payloads,
        keys=[b"key-%d" % number for number, _ in enumerate(payloads)],
        headers=headers,
        timestamps=timestamp or datetime.now(UTC),
        partition=partition,
        **options,
    )
    outcome = run_chain(chain_of(all_profiles()[country], load_reference()), batch)
    assert outcome.rejected.num_rows == len(payloads)
    return messages_from(outcome.rejected)


def send_letters(servers: str, topic: str, letters: Sequence[Message]) -> None:
    """Write messages to a topic of dead letters, alternating between its partitions 0 and 1."""
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "log_level": 0})
    for number, letter in enumerate(letters):
        producer.produce(topic, letter.value, letter.key, number % 2, headers=letter.headers)
    assert producer.flush(600) == 0
