"""Code that the commands for dead letters share: options of the filter, and the journal entry of each reveal."""

import getpass
import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.offset_options import time_of
from orion_beam.cli.shared.options import duration_of
from orion_beam.errors import UserError
from orion_beam.schemas.codes import CUSTOM_CODE, CUSTOM_NAME, Code, Stage
from orion_beam.telemetry.logs import say

with late_imports():
    from orion_beam.countries import all_profiles
    from orion_beam.dlq.files import FileSelection
    from orion_beam.dlq.filters import LetterFilter, Selection
    from orion_beam.kafka.offset_ranges import OffsetRange
    from orion_beam.kafka.retry import KafkaRefusedError
    from orion_beam.redrive.journal import write_journal
    from orion_beam.redrive.sent_records import Redriven, read_redriven
    from orion_beam.topics.names import own_topics

ServersOrFiles = Annotated[str | None, typer.Option(help="Kafka brokers, host:port,…; not needed with --input.")]
InputOption = Annotated[
    Path | None,
    typer.Option("--input", help="Read letters from files: cdr.dlq.avro, or the directory of `run --output`."),
]
CodeOption = Annotated[str | None, typer.Option("--code", help="Only letters with one of these codes: invalid_imsi,…")]
CountryOption = Annotated[
    str | None, typer.Option("--countries", "--country", help="Only letters of these countries: FR,TN")
]
StageOption = Annotated[str | None, typer.Option("--stage", help="Only letters of these stages: decode,validate")]
FromOption = Annotated[
    str | None, typer.Option("--from", help="Only letters that failed at this time or later: 2026-01-01T00:00Z")
]
LastOption = Annotated[
    str | None, typer.Option(help="Only letters that failed within this time until now: 30m, 6h, 7d")
]
ToOption = Annotated[
    str | None, typer.Option("--to", help="Only letters that failed before this time: 2026-01-02T00:00Z")
]
OffsetsOption = Annotated[
    str | None,
    typer.Option(
        help="Only letters at these places of the topic: PARTITION=FIRST-END,… without END, or PARTITION=OFFSET"
    ),
]

_OFFSETS = re.compile(r"([0-9]{1,9})=([0-9]{1,18})(?:-([0-9]{1,18}))?")
_PLACE = re.compile(r"([0-9]{1,9})@([0-9]{1,18})")


def filter_of(
    code: str | None,
    country: str | None,
    stage: str | None,
    since: str | None,
    until: str | None,
    offsets: str | None,
    last: str | None = None,
) -> LetterFilter:
    """Return the filter that options describe.

    Raises:
        UserError: an option's value is invalid. The message names the option and its possible values.
    """
    if last and since:
        raise UserError("--last and --from do not go together: both say since when")
    wanted = LetterFilter(
        codes=frozenset(_known("--code", code, list(Code), CUSTOM_CODE)),
        countries=frozenset(_known("--countries", country, [*all_profiles(), "ZZ"])),
        stages=frozenset(_known("--stage", stage, list(Stage), CUSTOM_NAME)),
        since=_since(since, last),
        until=time_of(until, "--to") if until else None,
        offsets=_offsets(offsets),
    )
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise UserError(f"{f'--last {last}' if last else f'--from {since}'} is not before --to {until}")
    return wanted


def _since(since: str | None, last: str | None) -> datetime | None:
    if last:
        return datetime.now(UTC) - timedelta(seconds=duration_of(last, "--last"))
    return time_of(since, "--from") if since else None


class Letters(NamedTuple):
    """Dead letters to read, and where.

    Attributes:
        selection: The letters that match the filter.
        servers: The brokers. None: the letters are in files.
    """

    selection: Selection | FileSelection
    servers: str | None

    def redriven(self) -> Redriven:
        """Return the records that have been sent back; none for files."""
        if self.servers is None:
            return Redriven({}, {})
        try:
            return read_redriven(self.servers, self.selection.topic)
        except KafkaRefusedError as error:
            # A user who may read the letters may not be allowed to read the journal.
            say(f"warning: cannot tell redriven letters from open ones: {error}", logging.WARNING)
            return Redriven({}, {})


def letters_at(bootstrap_servers: str | None, files: Path | None, topic: str, wanted: LetterFilter) -> Letters:
    """Return the letters that options describe, on Kafka or in files.

    Raises:
        UserError: the options name neither Kafka nor files, or both, or there are no such files.
        PrerequisiteError: the broker cannot be reached, or lacks the topic.
    """
    servers = servers_of(bootstrap_servers, files, topic)
    if servers is None:
        assert files is not None
        return Letters(FileSelection.of(files, wanted), None)
    return Letters(Selection.of(servers, topic, wanted), servers)


def servers_of(bootstrap_servers: str | None, files: Path | None, topic: str | None = None) -> str | None:
    """Return the brokers that options name; None for files.

    Raises:
        UserError: the options name neither Kafka nor files, or both.
    """
    if (bootstrap_servers is None) == (files is None):
        raise UserError("where to look? give --bootstrap-servers HOST:PORT, or --input with what `run` has written")
    if files is not None and topic not in (None, own_topics().dead_letters.name):
        raise UserError("--dead-letter-topic does not go with --input: files have no topic")
    return bootstrap_servers


def place_of(text: str) -> tuple[int, int]:
    """Return partition and offset of a place such as `3@1234`.

    Raises:
        UserError: the text has another form.
    """
    if (found := _PLACE.fullmatch(text)) is None:
        raise UserError(f"{text!r} is no place: write it as PARTITION@OFFSET, such as 3@1234")
    return int(found[1]), int(found[2])


def _known(option: str, text: str | None, known: Sequence[str], custom: str | None = None) -> list[str]:
    names = [part.strip() for part in (text or "").split(",") if part.strip()]
    for name in names:
        if name not in known and not (custom and re.fullmatch(custom, name)):
            own = "" if custom is None else f", or {_OF_OWN_STAGES[option]}"
            raise UserError(f"{option} {name}: expected some of {', '.join(known)}{own}")
    return names


_OF_OWN_STAGES = {"--code": "STAGE.code of a stage of your own", "--stage": "the name of a stage of your own"}


def _offsets(text: str | None) -> dict[int, OffsetRange]:
    ranges = {}
    for part in filter(None, (text or "").split(",")):
        if (found := _OFFSETS.fullmatch(part.strip())) is None:
            raise UserError(f"--offsets {part}: write it as PARTITION=FROM-TO or PARTITION=OFFSET, such as 0=100-200")
        low = int(found[2])
        ranges[int(found[1])] = OffsetRange(low, int(found[3]) if found[3] else low + 1)
        if ranges[int(found[1])].offsets <= 0:
            raise UserError(f"--offsets {part}: the end must be behind the start")
    return ranges


def audit_reveal(bootstrap_servers: str | None, command: str, topic: str, shown: Mapping[str, Any]) -> None:
    """Record in the journal who is shown subscribers' numbers, and of which records, before they are shown.

    For files (no brokers) nothing is recorded, because the user can read the files anyway.

    Raises:
        UserError: the entry cannot be written, so nothing may be shown.
    """
    if bootstrap_servers is None:
        return
    entry = {
        "kind": "reveal",
        "command": command,
        "user": getpass.getuser(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "topic": topic,
        "filter": shown,
    }
    write_journal(bootstrap_servers, f"reveal/{uuid.uuid4()}", entry)
