"""Records that wait for a job when it starts: whether it processes them shows whether it works."""

from collections.abc import Sequence
from contextlib import suppress

from orion_beam.errors import UserError
from orion_beam.kafka.offset_ranges import SourcePartition, group_offsets, offset_ranges


class UnreadRecords:
    """The partitions that held records which a group had not read, at the time when this was made.

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
        committed = group_offsets(bootstrap_servers, group_id, list(held)) if held else {}
        self._starts = {
            part: start for part, range_ in held.items() if (start := committed.get(part, range_.low)) < range_.high
        }

    def topics_left(self) -> list[str]:
        """Return the topics of these partitions of which the group has read nothing since.

        While Kafka does not say, these are all of them.
        """
        if not self._starts:
            return []
        committed: dict[SourcePartition, int] = {}
        with suppress(UserError):
            committed = group_offsets(self._bootstrap_servers, self._group_id, list(self._starts))
        read = {part.topic for part, start in self._starts.items() if committed.get(part, start) > start}
        return sorted({part.topic for part in self._starts} - read)
