"""Records that wait for a job when it starts: whether it processes them shows whether it works."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from confluent_kafka import Consumer

from orion_beam.errors import UserError
from orion_beam.kafka.login import login_settings
from orion_beam.kafka.offset_ranges import SourcePartition, committed_offsets, offset_ranges


class UnreadRecords:
    """Partitions with records behind the committed offsets of a group, at the time when this is made.

    A job commits offsets with its checkpoints, once its stages have processed the records before them. Its first
    checkpoint may be complete before it has read anything, so it does not show that the stages work.
    """

    def __init__(self, bootstrap_servers: str, group_id: str, topics: Sequence[str]) -> None:
        """Ask the brokers.

        Raises:
            PrerequisiteError: The broker cannot be reached, or lacks a topic.
            KafkaRefusedError: The broker reports another error.
        """
        self._bootstrap_servers, self._group_id = bootstrap_servers, group_id
        held = offset_ranges(bootstrap_servers, topics) if topics else {}
        committed = self._committed(list(held))
        self._starts = {
            part: start for part, range_ in held.items() if (start := committed.get(part, range_.low)) < range_.high
        }

    def topics_left(self) -> list[str]:
        """Return the topics with such partitions of which the group has committed no further offset.

        While Kafka does not say, these are all of them.
        """
        committed: dict[SourcePartition, int] = {}
        with suppress(UserError):
            committed = self._committed(list(self._starts))
        moved = {part.topic for part, start in self._starts.items() if committed.get(part, start) > start}
        return sorted({part.topic for part in self._starts} - moved)

    def _committed(self, parts: Sequence[SourcePartition]) -> dict[SourcePartition, int]:
        with _consumer(self._bootstrap_servers, self._group_id) as consumer:
            return committed_offsets(consumer, self._bootstrap_servers, self._group_id, parts)


@contextmanager
def _consumer(bootstrap_servers: str, group_id: str) -> Iterator[Consumer]:
    consumer = Consumer(
        login_settings()
        | {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group_id,
            "log_level": 0,
            "error_cb": lambda _: None,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()
