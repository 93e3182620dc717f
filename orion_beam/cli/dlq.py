"""`orion-beam dlq`: commands to look at dead letters, test them again and send them back."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from orion_beam.cli.redrive import redrive, retest
from orion_beam.cli.shared.console import console_of, progress_of
from orion_beam.cli.shared.given import local_path
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.letters import (
    CodeOption,
    CountryOption,
    FromOption,
    InputOption,
    LastOption,
    OffsetsOption,
    ServersOrFiles,
    StageOption,
    ToOption,
    audit_reveal,
    filter_of,
    letters_at,
    place_of,
)
from orion_beam.cli.shared.options import OWN, DeadLetterTopic
from orion_beam.defaults import ExportFormat
from orion_beam.errors import UserError
from orion_beam.telemetry.logs import say

with late_imports():
    import pyarrow as pa

    from orion_beam.dlq.export import export
    from orion_beam.dlq.filters import LetterFilter
    from orion_beam.dlq.newest import Newest
    from orion_beam.dlq.report import html_report
    from orion_beam.dlq.statistics import LetterStatistics
    from orion_beam.dlq.view import LetterView, views_of
    from orion_beam.kafka.offset_ranges import OffsetRange

app = typer.Typer(help="Look at dead letters, try them again, and send them back.", no_args_is_help=True)
app.command(epilog="Example: orion-beam dlq retest --bootstrap-servers localhost:9092 --countries TN")(retest)
app.command(
    epilog="Example: orion-beam dlq redrive --bootstrap-servers localhost:9092 --code unknown_rat --set rat=4G"
)(redrive)


@app.command(
    epilog="Example: orion-beam dlq stats --bootstrap-servers localhost:9092 --countries FR --html letters.html"
)
def stats(
    bootstrap_servers: ServersOrFiles = None,
    files: InputOption = None,
    code: CodeOption = None,
    country: CountryOption = None,
    stage: StageOption = None,
    since: FromOption = None,
    last: LastOption = None,
    until: ToOption = None,
    offsets: OffsetsOption = None,
    dlq_topic: DeadLetterTopic = OWN,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts as JSON.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(callback=local_path, help="Also write an HTML page with charts, which needs no network."),
    ] = None,
) -> None:
    """Count dead letters by country, stage, code, field and hour."""
    wanted = filter_of(code, country, stage, since, until, offsets, last)
    letters = letters_at(bootstrap_servers, files, dlq_topic, wanted)
    selection, redriven = letters.selection, letters.redriven()
    statistics = LetterStatistics()
    with progress_of("counting", selection.offsets) as advance:
        for read in selection.read(advance):
            statistics.add(read, redriven.holds(read.letters))
    if html is not None:
        page = html_report(statistics, selection.topic, datetime.now(UTC), _words(wanted))
        try:
            html.write_text(page, encoding="utf-8")
        except OSError as error:
            raise UserError(f"--html {html}: {error.strerror}") from None
    if as_json:
        typer.echo(json.dumps({"topic": selection.topic, "filter": wanted.described()} | statistics.as_json()))
        return
    console_of().print(_statistics_table(statistics))
    states = f"{statistics.letters - statistics.redriven:,} open, {statistics.redriven:,} redriven"
    typer.echo(
        f"{statistics.letters:,} dead letters ({states}), {statistics.foreign:,} foreign messages on {selection.topic}"
    )
    if html is not None:
        typer.echo(f"written to {html}")


def _words(wanted: LetterFilter) -> str:
    return "; ".join(f"{name} {json.dumps(value)}" for name, value in wanted.described().items())


def _statistics_table(statistics: LetterStatistics) -> Table:
    table = Table("by", "", title="Dead letters")
    for name in ("letters", "open"):
        table.add_column(name, justify="right")
    for name in ("country", "stage", "code"):
        still_open = statistics.open_by(name)
        for value, count in statistics.by(name).most_common():
            table.add_row(name, value, f"{count:,}", f"{still_open[value]:,}")
        table.add_section()
    fields: dict[str, int] = {}
    for rule, count in statistics.rules.items():
        fields[rule.field] = fields.get(rule.field, 0) + count
    for field, count in sorted(fields.items(), key=lambda item: (-item[1], item[0])):
        table.add_row("field", field, f"{count:,}")
    table.add_section()
    for hour, count in sorted(statistics.by("hour").items())[-24:]:
        table.add_row("hour", f"{hour:%Y-%m-%d %H:00Z}", f"{count:,}")
    return table


@app.command(epilog="Example: orion-beam dlq ls --bootstrap-servers localhost:9092 --code invalid_imsi --limit 20")
def ls(
    bootstrap_servers: ServersOrFiles = None,
    files: InputOption = None,
    code: CodeOption = None,
    country: CountryOption = None,
    stage: StageOption = None,
    since: FromOption = None,
    last: LastOption = None,
    until: ToOption = None,
    offsets: OffsetsOption = None,
    dlq_topic: DeadLetterTopic = OWN,
    limit: Annotated[int, typer.Option(help="Largest number of letters to list.", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """List dead letters, newest first: place, source and broken rules, but no content."""
    wanted = filter_of(code, country, stage, since, until, offsets, last)
    letters = letters_at(bootstrap_servers, files, dlq_topic, wanted)
    selection, redriven = letters.selection, letters.redriven()
    newest = Newest(limit)
    with progress_of("looking", selection.offsets) as advance:
        for read in selection.read(advance):
            newest.add(read, redriven.holds(read.letters))
    if as_json:
        for listed in newest.listed:
            typer.echo(json.dumps(listed))
    else:
        console_of().print(_listing(newest.listed, selection.topic))
    if newest.left_out:
        say(f"… and {newest.left_out:,} more, older ones: --limit says how many to list, `stats` counts them")


def _listing(letters: Sequence[Mapping[str, Any]], topic: str) -> Table:
    table = Table(title=topic)
    for name in ("place", "failed at", "state", "country", "stage", "rules", "attempt", "source"):
        # In a narrow terminal texts are wrapped, but what people copy stays on one line.
        table.add_column(name, no_wrap=name in ("place", "failed at", "state"), overflow="fold")
    for listed in letters:
        if listed["foreign"]:
            table.add_row(
                listed["place"], "", "foreign", "", "", "the headers of ORION Beam are missing or broken", "", ""
            )
            continue
        rules = ", ".join(map(":".join, zip(listed["fields"], listed["codes"], strict=True)))
        source = f"{listed['source_topic']}[{listed['source_partition']}]@{listed['source_offset']}"
        state = "redriven" if listed["redriven"] else "open"
        row = (listed["place"], listed["failed_at"][:19], state, listed["country"], listed["stage"], rules)
        table.add_row(*row, str(listed["attempt"]), Text(source))
    return table


@app.command(epilog="Example: orion-beam dlq show 3@1234 --bootstrap-servers localhost:9092")
def show(
    place: Annotated[str, typer.Argument(help="PARTITION@OFFSET on the dead-letter topic, as `ls` lists it.")],
    bootstrap_servers: ServersOrFiles = None,
    files: InputOption = None,
    dlq_topic: DeadLetterTopic = OWN,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show subscribers' numbers; the topic orion.audit then says who did.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Show one dead letter: why it was refused, and its record with the broken fields marked.

    A letter by reference holds no record: it is read from the raw topic, or reported as gone.
    """
    partition, offset = place_of(place)
    wanted = LetterFilter(offsets={partition: OffsetRange(offset, offset + 1)})
    selection, servers = letters_at(bootstrap_servers, files, dlq_topic, wanted)
    reads = list(selection.read(follow=True))
    letters = [read.letters for read in reads if read.letters.num_rows]
    if not letters:
        is_foreign = any(read.foreign.num_rows for read in reads)
        reason = "is foreign: it lacks our headers" if is_foreign else "holds nothing (any more)"
        raise UserError(f"{selection.topic} {place} {reason}; `orion-beam dlq ls` lists what there is")
    if reveal:
        audit_reveal(servers, "dlq show", dlq_topic, wanted.described())
    (view,) = views_of(letters[0], selection.topic, reveal=reveal)
    if as_json:
        typer.echo(json.dumps(view.as_json(), ensure_ascii=False))
    else:
        _print_view(view, selection.topic)


def _print_view(view: LetterView, topic: str) -> None:
    console = console_of()
    reasons = Table(show_header=False, box=None)
    for name, value in view.reasons.items():
        reasons.add_row(Text(name, style="dim"), Text(", ".join(value) if isinstance(value, list) else str(value)))
    reasons.add_row(Text("key", style="dim"), Text(str(view.key)))
    for name, text in view.headers:
        reasons.add_row(Text(f"header {name}", style="dim"), Text(str(text)))
    record = Table("", "field", "text", "what is wrong", title="The record")
    for field in view.fields:
        style = "bold red" if field.problems else ""
        cells = ("✗" if field.problems else "", field.field, str(field.text), "; ".join(field.problems))
        record.add_row(*(Text(cell, style=style) for cell in cells))
    console.print(Text(f"{topic} {view.place}", style="bold"), reasons, record)


@app.command(
    "export",
    epilog="Example: orion-beam dlq export --bootstrap-servers localhost:9092 --code invalid_imsi --output bad.jsonl",
)
def export_letters(
    output: Annotated[Path, typer.Option(callback=local_path, help="File to write to.")],
    bootstrap_servers: ServersOrFiles = None,
    files: InputOption = None,
    code: CodeOption = None,
    country: CountryOption = None,
    stage: StageOption = None,
    since: FromOption = None,
    last: LastOption = None,
    until: ToOption = None,
    offsets: OffsetsOption = None,
    dlq_topic: DeadLetterTopic = OWN,
    kind: Annotated[
        ExportFormat,
        typer.Option("--format", help="Format; avro holds orion.cdr.DeadLetter and needs --reveal."),
    ] = ExportFormat.JSONL,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Write the original bytes; the topic orion.audit then says who did.")
    ] = False,
) -> None:
    """Write dead letters to a file that only you can read: masked or, with --reveal, as they are.

    A pipe or a device is written as it is, so that `--output /dev/stdout` can be read by another program.
    """
    wanted = filter_of(code, country, stage, since, until, offsets, last)
    selection, servers = letters_at(bootstrap_servers, files, dlq_topic, wanted)
    if kind is ExportFormat.AVRO and not reveal:
        raise UserError("an Avro export holds the original bytes: say --reveal, or take --format jsonl")
    if reveal:
        audit_reveal(servers, "dlq export", dlq_topic, wanted.described())

    with progress_of("exporting", selection.offsets) as advance:
        batches: Iterator[pa.RecordBatch] = (read.letters for read in selection.read(advance, follow=True))
        written = export(batches, output, selection.topic, kind, reveal=reveal)
    typer.echo(f"{written:,} dead letters written to {output}", err=not output.is_file())
