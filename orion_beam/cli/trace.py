"""`orion-beam trace`: the way of one record, stage by stage, and the places of its results."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orion_beam.cli.shared.console import console_of, progress_of
from orion_beam.cli.shared.job_defaults import stages_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.letters import ServersOrFiles, audit_reveal, servers_of
from orion_beam.cli.shared.options import Cells, Subscribers, duration_of
from orion_beam.defaults import CELLS, SUBSCRIBERS
from orion_beam.errors import UserError
from orion_beam.telemetry.logs import say

with late_imports():
    import pyarrow as pa

    from orion_beam.chain import chain_of, load_reference
    from orion_beam.countries import all_profiles
    from orion_beam.custom_stages.declaration import JobStage, final_model_of
    from orion_beam.inspect.final_values import FinalReader
    from orion_beam.inspect.find_in_files import find_id, find_source, output_of
    from orion_beam.inspect.find_in_kafka import (
        Found,
        SearchRanges,
        find_cdr,
        find_final,
        find_letters,
        find_redriven,
        read_record,
        search_range,
    )
    from orion_beam.inspect.trace import Judged, judge, masked
    from orion_beam.io.letter_headers import MAX_REFERENCE_KEY_BYTES, RedriveHeaders, redrives_of
    from orion_beam.kafka.admin import topic_names
    from orion_beam.kafka.offset_ranges import CLOCK_SKEW, OffsetRange, SourcePartition
    from orion_beam.redrive.journal import journal_topic, read_journal
    from orion_beam.schema_tools.kept_schemas import kept_schemas
    from orion_beam.schemas.cdr import UnifiedCdr
    from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA
    from orion_beam.schemas.raw import RAW_CDR_SCHEMA
    from orion_beam.topics.names import own_topics
    from orion_beam.transforms.enrich import ReferenceData
    from orion_beam.transforms.stage.batches import batch_of, columns_of


@dataclass(frozen=True)
class _Record:
    """A raw record.

    Attributes:
        place: Its topic and partition.
        offset: Its offset.
        country: Its country.
        arrived: Its Kafka timestamp.
        row: One row of `raw.RAW_CDR_SCHEMA`. None: only the CDR that was made of it is available.
        redrive: The redrive that has sent it. None: no redrive did.
    """

    place: SourcePartition
    offset: int
    country: str
    arrived: datetime | None
    row: pa.RecordBatch | None
    redrive: RedriveHeaders | None = None

    @property
    def key(self) -> bytes | None:
        """Kafka key of the record."""
        key: bytes | None = None if self.row is None else self.row.column("raw_key")[0].as_py()
        return key


@dataclass(frozen=True)
class _Today:
    """What today's chain needs: reference data, and the user's own stages."""

    reference: ReferenceData
    stages: tuple[JobStage, ...]

    @property
    def model(self) -> type[UnifiedCdr]:
        """The model of the job's CDRs."""
        return final_model_of(self.stages)

    @cached_property
    def reader(self) -> FinalReader:
        """Reader of CDRs on cdr.final."""
        return FinalReader(self.model, kept_schemas())

    def judge(self, record: _Record) -> Judged:
        """Run the chain over a record."""
        return judge(chain_of(all_profiles()[record.country], self.reference, self.stages), record.row)


def trace(
    context: typer.Context,
    bootstrap_servers: ServersOrFiles = None,
    files: Annotated[
        Path | None, typer.Option("--input", help="Read files from the directory of a `run --output`, not Kafka.")
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Raw topic of the record; with --input, the raw file's name.")
    ] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Partition of the record.")] = None,
    offset: Annotated[
        int | None, typer.Option(min=0, help="Offset of the record; in a file, its line, counted from 0.")
    ] = None,
    cdr_id: Annotated[
        str | None, typer.Option(help="Instead of topic, partition and offset: the cdr_id of a CDR on cdr.final.")
    ] = None,
    within: Annotated[
        str, typer.Option(help="How long after the record to search; with --cdr-id, how far back from now: 6h, 1d.")
    ] = "1d",
    cells: Cells = CELLS,
    subscribers: Subscribers = SUBSCRIBERS,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show subscribers' numbers; the topic orion.audit then says who did.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what became of one record: its fields, each stage's verdict, and where its CDR or dead letter lies.

    The verdicts come from today's code and the record on the raw topic. Results on the output topics were written by
    the code of their time. Subscribers' numbers are masked. Exit code 1 when no result is found within the time that
    was searched.

    Example: orion-beam trace --bootstrap-servers localhost:9092 --topic cdr.raw.TN --partition 3 --offset 12345

    Example: orion-beam trace --bootstrap-servers localhost:9092 --cdr-id 184731026435209961077405413298734912045

    Example: orion-beam trace --input out --topic fr.csv --offset 17
    """
    servers = servers_of(bootstrap_servers, files)
    today = _Today(load_reference(cells, subscribers), stages_of(context))
    if servers is None:
        assert files is not None
        record, searched, found = _find_in_files(files, topic, partition, offset, cdr_id, today)
        judged = Judged((), found[0][1].record if found else {})
        if record.row is not None:
            judged = today.judge(record)
    else:
        window = timedelta(seconds=duration_of(within, "--within"))
        place, at = _place_of(servers, topic, partition, offset, cdr_id, window, today)
        record = _read(servers, place, at)
        if reveal:
            audit_reveal(servers, "trace", place.topic, {"offsets": {str(place.partition): [at, at + 1]}})
        judged = today.judge(record)
        searched, found = _follow(servers, record, judged, today, window)
    if today.reader.unknown:
        say(f"{today.reader.unknown} CDRs were left out: this version does not know their schema, see `schema keep`")
    fields = dict(judged.fields) if reveal else masked(judged.fields)
    if as_json:
        typer.echo(json.dumps(_as_json(record, judged, fields, searched, found), indent=2, default=str))
    else:
        _print(record, judged, fields, searched, found)
    if not found:
        raise typer.Exit(1)


def _find_in_files(
    files: Path,
    topic: str | None,
    partition: int | None,
    offset: int | None,
    cdr_id: str | None,
    today: _Today,
) -> tuple[_Record, SearchRanges, list[tuple[str, Found]]]:
    """Return a record of a file, the places searched in its run's output, and its results there."""
    final, letters = output_of(files, today.model)
    if cdr_id is None and (topic is None or offset is None):
        raise UserError("which record? give --topic and --offset, the file and the line from 0, or --cdr-id")
    searched = {SourcePartition(str(each.path), 0): OffsetRange(0, each.count) for each in (final, letters)}
    found: list[tuple[str, Found]] = []
    with progress_of(f"looking through {files}", _offsets(searched)) as advance:
        if cdr_id is not None:
            _check_id(cdr_id, is_alone=topic is None and partition is None and offset is None)
            found = [("final", each) for each in find_id(final, cdr_id, advance)]
            if not found:
                raise UserError(f"{final.path} has no CDR {cdr_id}")
            made = found[0][1].record
            source, offset = SourcePartition(made["source_topic"], made["source_partition"]), made["source_offset"]
        else:
            assert topic is not None
            assert offset is not None
            source = SourcePartition(topic, partition or 0)
            found = [("final", each) for each in find_source(final, source, offset, advance)]
        found += [("dead letter", each) for each in find_source(letters, source, offset, advance)]
    if not found:
        return _Record(source, offset, "?", None, None), searched, []
    outcome, made_of_it = found[-1]
    made = made_of_it.record
    row = None
    if outcome == "dead letter" and made["country"] in all_profiles():
        letter = pa.RecordBatch.from_pylist([made], schema=DEAD_LETTER_SCHEMA)
        raw = columns_of(letter) | {f"raw_{name}": letter.column(name) for name in ("key", "value", "headers")}
        row = batch_of(raw, RAW_CDR_SCHEMA)
    return _Record(source, offset, made["country"], made["source_timestamp"], row), searched, found


def _follow(
    bootstrap_servers: str, record: _Record, judged: Judged, today: _Today, window: timedelta
) -> tuple[SearchRanges, list[tuple[str, Found]]]:
    """Search for the results of a record, and of its copies that redrives have sent, and of their copies."""
    searched, found = _search(bootstrap_servers, record, judged, today, window)
    is_rejected = any(outcome == "dead letter" for outcome, _ in found)
    if not is_rejected or journal_topic() not in topic_names(bootstrap_servers):
        return searched, found
    journal = read_journal(bootstrap_servers, "redrive/")
    ranges = dict(searched)
    with progress_of("looking for it among redriven records", 0) as advance:
        sent = list(find_redriven(bootstrap_servers, record.place, record.offset, journal, advance))
    for each in sent:
        again = _read(bootstrap_servers, each.place, each.offset)
        more, made = _follow(bootstrap_servers, again, today.judge(again), today, window)
        ranges |= more
        found += [("redriven", each), *made]
    return ranges, found


def _place_of(
    bootstrap_servers: str,
    topic: str | None,
    partition: int | None,
    offset: int | None,
    cdr_id: str | None,
    window: timedelta,
    today: _Today,
) -> tuple[SourcePartition, int]:
    """Return the place of the raw record, from the options or from the CDR that was made of it."""
    is_given = [part is not None for part in (topic, partition, offset)]
    if cdr_id is None:
        if topic is None or partition is None or offset is None:
            raise UserError("which record? give --topic, --partition and --offset, or --cdr-id")
        return SourcePartition(topic, partition), offset
    _check_id(cdr_id, is_alone=not any(is_given))
    final_topic = own_topics().final.name
    ranges = search_range(bootstrap_servers, final_topic, None, datetime.now(UTC) - window)
    with progress_of(f"looking through {final_topic}", _offsets(ranges)) as advance:
        for found in find_cdr(bootstrap_servers, ranges, cdr_id, today.reader, advance):
            record = found.record
            return SourcePartition(record["source_topic"], record["source_partition"]), record["source_offset"]
    raise UserError(f"{final_topic} has no CDR {cdr_id} of the last {_hours(window)}: try a longer --within")


def _check_id(cdr_id: str, *, is_alone: bool) -> None:
    if not is_alone:
        raise UserError("--cdr-id does not go with --topic, --partition and --offset: it finds them")
    if not re.fullmatch("[0-9]{1,39}", cdr_id):
        raise UserError(f"--cdr-id {cdr_id!r} is no cdr_id: expected up to 39 decimal digits")


def _hours(window: timedelta) -> str:
    return f"{window.total_seconds() / 3_600:g} h"


def _offsets(ranges: SearchRanges) -> int:
    return sum(within.offsets for within in ranges.values())


def _read(bootstrap_servers: str, place: SourcePartition, offset: int) -> _Record:
    profiles = {profile.topic: profile for profile in all_profiles().values()}
    if place.topic not in profiles:
        raise UserError(f"{place.topic} is no raw topic: expected one of {', '.join(profiles)}")
    country = profiles[place.topic].code
    row = read_record(bootstrap_servers, place, offset)
    arrived = row.column("source_timestamp")[0].as_py()
    (redrive,) = redrives_of(row)
    return _Record(place, offset, country, arrived, row.append_column("country", pa.array([country])), redrive)


def _search(
    bootstrap_servers: str, record: _Record, judged: Judged, today: _Today, window: timedelta
) -> tuple[SearchRanges, list[tuple[str, Found]]]:
    """Search both topics whatever today's verdict is, because the code of its time may have decided otherwise."""
    since = until = None
    now = datetime.now(UTC)
    if record.arrived is not None and record.arrived > now + CLOCK_SKEW:
        # The timestamp is wrong and does not say when the record arrived.
        since = now - window
    elif record.arrived is not None:
        # The clocks of the raw records' writers and of the workers differ.
        since = record.arrived - CLOCK_SKEW
        until = max(record.arrived, now - window) + window
    imsi = judged.fields.get("imsi")
    # A letter by reference leaves out a very long key, so it may be in any partition.
    letters_key = None if len(record.key or b"") > MAX_REFERENCE_KEY_BYTES else record.key
    own = own_topics()
    letters = search_range(bootstrap_servers, own.dead_letters.name, letters_key, since, until)
    finals = {} if imsi is None else search_range(bootstrap_servers, own.final.name, imsi.encode(), since, until)
    found: list[tuple[str, Found]] = []
    with progress_of("looking for its results", _offsets(letters) + _offsets(finals)) as advance:
        if imsi is not None:
            final = find_final(bootstrap_servers, finals, imsi, record.place, record.offset, today.reader, advance)
            found += [("final", each) for each in final]
        dead = find_letters(bootstrap_servers, letters, record.key, record.place, record.offset, advance)
        found += [("dead letter", each) for each in dead]
    return {**finals, **letters}, found


_DETAILS = {
    "final": ("cdr_id", "run_id"),
    "dead letter": ("stage", "codes", "attempt", "version", "run_id"),
    "redriven": ("id", "attempt", "reason"),
}


def _details(outcome: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details of an outcome, none of which is about a subscriber."""
    return {name: record[name] for name in _DETAILS[outcome]}


def _as_json(
    record: _Record,
    judged: Judged,
    fields: Mapping[str, Any],
    searched: SearchRanges,
    found: Sequence[tuple[str, Found]],
) -> dict[str, Any]:
    return {
        "record": {
            "topic": record.place.topic,
            "partition": record.place.partition,
            "offset": record.offset,
            "timestamp": record.arrived and record.arrived.isoformat(),
            "country": record.country,
            "redriven_from": record.redrive and record.redrive.source,
        },
        "stages": [
            {"stage": str(each.stage), "accepted": each.accepted, "codes": each.codes, "rules": each.rules}
            for each in judged.verdicts
        ],
        "fields": fields,
        "found": [
            {
                "outcome": outcome,
                "topic": each.place.topic,
                "partition": each.place.partition,
                "offset": each.offset,
                "timestamp": each.timestamp and each.timestamp.isoformat(),
                **_details(outcome, each.record),
            }
            for outcome, each in found
        ],
        "searched": [
            {"topic": part.topic, "partition": part.partition, "from": within.low, "to": within.high}
            for part, within in searched.items()
        ],
    }


def _print(
    record: _Record,
    judged: Judged,
    fields: Mapping[str, Any],
    searched: SearchRanges,
    found: Sequence[tuple[str, Found]],
) -> None:
    console = console_of(markup=True, highlight=False)
    console.print(f"{record.place} offset {record.offset}, {record.country}, arrived {record.arrived or 'unknown'}")
    if record.redrive is not None:
        console.print(f"  sent by redrive {record.redrive.id}, from {escape(record.redrive.source)}")
    for verdict in judged.verdicts:
        mark = "[green]accepted[/]" if verdict.accepted else "[bold red]refused[/]"
        console.print(f"  {verdict.stage:9} {mark}")
        for rule in verdict.rules:
            console.print(f"      {escape(rule)}")
    title = "Today's reading" if judged.is_accepted else "As far as it came"
    table = Table("field", "value", title=title if judged.verdicts else "As it was written")
    for name, value in fields.items():
        if value not in (None, []):
            table.add_row(name, escape(str(value)))
    if fields:
        console.print(table)
    for outcome, each in found:
        details = ", ".join(f"{name} {value}" for name, value in _details(outcome, each.record).items() if value)
        written = "" if each.timestamp is None else f", written {each.timestamp}"
        console.print(f"{outcome}: {each.place} offset {each.offset}{written}; {escape(details)}")
    if not found:
        places = ", ".join(f"{part} {within.low} to {within.high}" for part, within in searched.items())
        console.print(
            f"no result on {places}: the record is not processed yet, or its result on Kafka lies outside --within"
        )
