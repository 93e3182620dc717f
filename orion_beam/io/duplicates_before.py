"""What lies before a replay's ranges: read for FlagDuplicates to remember, and not written again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from orion_beam.chain import normalizing_chain_of, run_chain
from orion_beam.config import JobConfig, KafkaRanges
from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition, offset_ranges, read_ranges
from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.record_checks.duplicates import flag_duplicates, memory_of

_reached: dict[tuple[str, SourcePartition], int] = {}
"""Up to where this process knows a partition, by replay: chunks of a lane follow one another."""


@dataclass(frozen=True)
class DuplicatesBefore:
    """Lets a duplicate be found whose first record lies before the range, as the stream finds it.

    Attributes:
        bootstrap_servers: the brokers.
        profiles: by topic.
        window: rows of a country that a process remembers; the partitions that it reads side by side share them.
        run_id: of the replay, whose memory learns them.
    """

    bootstrap_servers: str
    profiles: Mapping[str, CountryProfile]
    window: int
    run_id: str

    @classmethod
    def of(cls, config: JobConfig) -> Self:
        """Take what a replay's job says."""
        assert isinstance(config.source, KafkaRanges)
        assert config.run_id is not None
        profiles = {profile.topic: profile for profile in config.profiles.values()}
        return cls(config.source.bootstrap_servers, profiles, config.duplicate_window, config.run_id)

    def learn(self, ranges: Mapping[SourcePartition, OffsetRange]) -> None:
        """Remember the records that lie before ranges of one topic, unless this process has just read them.

        Raises:
            UserError: what is read is deleted meanwhile.
            PrerequisiteError: the broker hands out no more.
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
        chain, memory = normalizing_chain_of(profile), memory_of(self.run_id, profile.code, self.window)
        for batch in read_ranges(self.bootstrap_servers, before, committed_only=True):
            rows = run_chain(chain, batch.append_column("country", pa.repeat(profile.code, batch.num_rows))).accepted
            if rows.num_rows:
                flag_duplicates(rows, profile, memory)
