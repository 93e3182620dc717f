"""Live slice: the newest records of raw topics, read once and pseudonymised before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from orion_beam.capture.records import RecordPseudonymiser
from orion_beam.chain import chain_of, places_of, run_chain
from orion_beam.errors import UserError
from orion_beam.kafka.offset_ranges import Advance, OffsetRange, SourcePartition, offset_ranges, read_ranges
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.raw import RAW_CDR_SCHEMA
from orion_beam.transforms.arrow.texts import to_list
from orion_beam.transforms.decode import decode_batch
from orion_beam.transforms.enrich import ReferenceData
from orion_beam.transforms.stage.batches import concat_batches
from orion_beam.transforms.stage.split import Split


class Captured(NamedTuple):
    """The pseudonymised slice of one country.

    Attributes:
        records: Rows of `raw.RAW_CDR_SCHEMA`, oldest first.
        cases: What each record shows: its format and its outcome.
        changed: Number of records whose outcome differs from the original's; there should be none.
    """

    records: pa.RecordBatch
    cases: list[str]
    changed: int


@dataclass(frozen=True)
class Capture:
    """Reads and pseudonymises slices.

    Attributes:
        bootstrap_servers: The brokers.
        count: Most records per country.
        key: The key of the pseudonyms.
        reference: Tables that enrichment looks up.
    """

    bootstrap_servers: str
    count: int
    key: bytes
    reference: ReferenceData

    def ranges(self, profile: CountryProfile) -> dict[SourcePartition, OffsetRange]:
        """Return the offset ranges of a country's newest records, up to the topic's present ends.

        Raises:
            PrerequisiteError: the broker cannot be reached, or lacks the topic.
        """
        held = offset_ranges(self.bootstrap_servers, [profile.topic], committed_only=True)
        return {part: OffsetRange(max(each.low, each.high - self.count), each.high) for part, each in held.items()}

    def take(self, profile: CountryProfile, advance: Advance | None = None) -> Captured:
        """Read and pseudonymise a country's newest records.

        Raises:
            PrerequisiteError: the broker cannot be reached, lacks the topic, or hands out no more.
            UserError: the records are more than 2 GiB.
        """
        newest = self._newest(profile, advance)
        chain = chain_of(profile, self.reference)
        records = self._pseudonymised(newest, profile)
        before, after = _outcomes(newest, chain), _outcomes(records, chain)
        changed = sum(one != other for one, other in zip(before, after, strict=True))
        return Captured(records, after, changed)

    def _newest(self, profile: CountryProfile, advance: Advance | None) -> pa.RecordBatch:
        batches = list(read_ranges(self.bootstrap_servers, self.ranges(profile), committed_only=True, advance=advance))
        if not batches:
            return pa.RecordBatch.from_pylist([], schema=RAW_CDR_SCHEMA)
        table = pa.Table.from_batches(batches)
        order = [("source_timestamp", "ascending"), ("source_partition", "ascending"), ("source_offset", "ascending")]
        table = table.sort_by(order)
        table = table.slice(max(0, table.num_rows - self.count))
        table = table.append_column("country", pa.repeat(pa.scalar(profile.code), table.num_rows))
        try:
            return concat_batches(table.select(RAW_CDR_SCHEMA.names).cast(RAW_CDR_SCHEMA).to_batches())
        except OverflowError as error:
            raise UserError(f"{profile.topic}: {error}: take fewer by --count") from None

    def _pseudonymised(self, records: pa.RecordBatch, profile: CountryProfile) -> pa.RecordBatch:
        change = RecordPseudonymiser(self.key, profile)
        formats = _formats(records, profile)
        payloads = zip(to_list(records.column("raw_value")), formats, strict=True)
        headers = [
            [{"key": header["key"], "value": change.bytes_around(header["value"])} for header in several]
            for several in records.column("raw_headers").to_pylist()
        ]
        changed = {
            "raw_key": [change.bytes_around(key) for key in to_list(records.column("raw_key"))],
            "raw_value": [change.payload(payload, name) for payload, name in payloads],
            "raw_headers": headers,
        }
        columns = [
            pa.array(changed[field.name], field.type) if field.name in changed else records.column(field.name)
            for field in RAW_CDR_SCHEMA
        ]
        return pa.RecordBatch.from_arrays(columns, schema=RAW_CDR_SCHEMA)


def _formats(records: pa.RecordBatch, profile: CountryProfile) -> list[str | None]:
    decoded = decode_batch(records, profile).accepted
    found = dict(zip(places_of(decoded), decoded.column("raw_format").to_pylist(), strict=True))
    return [found.get(place) for place in places_of(records)]


def _outcomes(records: pa.RecordBatch, chain: Mapping[str, Split]) -> list[str]:
    """Return the outcome of each record as text: its format and warnings, or the rules that it breaks."""
    outcome = run_chain(chain, records)
    texts: dict[tuple[int, int], str] = {}
    if outcome.accepted.num_rows:
        columns = (outcome.accepted.column(name).to_pylist() for name in ("raw_format", "warnings"))
        for place, name, warnings in zip(places_of(outcome.accepted), *columns, strict=True):
            texts[place] = f"{name}: accepted" + (f", warnings {', '.join(warnings)}" if warnings else "")
    columns = (outcome.rejected.column(name).to_pylist() for name in ("stage", "fields", "codes"))
    for place, stage, fields, codes in zip(places_of(outcome.rejected), *columns, strict=True):
        texts[place] = f"{stage}: {', '.join(map(' '.join, zip(fields, codes, strict=True)))}"
    return [texts[place] for place in places_of(records)]
