"""Records that precede a replay's ranges: FlagDuplicates remembers them, and the replay does not write them again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from orion_beam.chain import normalizing_chain_of, run_chain
from orion_beam.config import JobConfig, KafkaRanges
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition, offset_ranges, read_ranges
from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.record_checks.duplicates import flag_duplicates, memory_of

_reached: dict[tuple[str, SourcePartition], int] = {}
"""End offset of the last range that this process has read, by run id and partition.

Chunks of a lane follow one another, so a range that begins at this offset needs no records read before it.
"""


@dataclass(frozen=True)
class DuplicatesBefore:
    """Teaches a replay's duplicate memory the records before a range, so that it flags what the stream flags.

    Attributes:
        bootstrap_servers: Brokers, `host:port,…`.
        profiles: Country profile of each topic.
        window: Rows of a country that a process remembers. Partitions that are read side by side share the window.
        run_id: Name of the replay, which has a duplicate memory of its own.
        stages: The user's own stages. Those before the look for duplicates drop and change records, as in the stream.
    """

    bootstrap_servers: str
    profiles: Mapping[str, CountryProfile]
    window: int
    run_id: str
    stages: tuple[JobStage, ...] = ()

    @classmethod
    def of(cls, config: JobConfig) -> Self:
        """Create it from the configuration of a replay."""
        assert isinstance(config.source, KafkaRanges)
        assert config.run_id is not None
        profiles = {profile.topic: profile for profile in config.profiles.values()}
        return cls(config.source.bootstrap_servers, profiles, config.duplicate_window, config.run_id, config.stages)

    def learn(self, ranges: Mapping[SourcePartition, OffsetRange]) -> None:
        """Remember the records that precede ranges of one topic, unless this process has just read them.

        Raises:
            UserError: Kafka deletes the records while they are read.
            PrerequisiteError: The broker stops handing out records.
        """
        unknown = {
            part: within.low for part, within in ranges.items() if _reached.get((self.run_id, part)) != within.low
        }
        _reached.update({(self.run_id, part): within.high for part, within in ranges.items()})
        if not unknown:
            return
        (topic,) = {part.topic for part in unknown}
        profile, share = self.profiles[topic], max(1, self.window // len(ranges))
        held = offset_ranges(self.bootstrap_servers, [topic])
        before = {part: OffsetRange(max(held[part].low, low - share), low) for part, low in unknown.items()}
        chain, memory = normalizing_chain_of(profile, self.stages), memory_of(self.run_id, profile.code, self.window)
        for batch in read_ranges(self.bootstrap_servers, before, committed_only=True):
            rows = run_chain(chain, batch.append_column("country", pa.repeat(profile.code, batch.num_rows))).accepted
            if rows.num_rows:
                flag_duplicates(rows, profile, memory)
