"""`orion-beam run`: the pipeline over files, or as a stream from Kafka to Kafka."""

import codecs
import errno
import json
import logging
import os
import stat
import uuid
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.given import local_path, refuse_unused
from orion_beam.cli.shared.job_defaults import beam_arguments
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.offset_options import time_of
from orion_beam.cli.shared.options import (
    OWN,
    AllowSecondJob,
    Cells,
    ConsumerSettings,
    CountriesOption,
    DetectGaps,
    DuplicateWindow,
    FlagDuplicatesOption,
    GapTolerance,
    GroupId,
    LogFormatOption,
    ProducerSettings,
    Publish,
    Quiet,
    ReferenceRefresh,
    SchemaRegistry,
    SpreadCountries,
    StartFrom,
    Subscribers,
    TagPartialsOption,
    ValueFormatOption,
    checked_config,
)
from orion_beam.cli.shared.stream import Stream, record_options
from orion_beam.cli.shared.submission import submit_and_stay
from orion_beam.defaults import CELLS, DUPLICATE_WINDOW, SUBSCRIBERS, ValueFormat
from orion_beam.errors import JobFailedError, UserError
from orion_beam.telemetry.logs import FORMAT_VARIABLE, JOB_VARIABLE, LogFormat, say, set_up_logging

with late_imports():
    import fastavro

    from orion_beam.chain import load_reference
    from orion_beam.cli.shared.counts import counts_summary, counts_table
    from orion_beam.config import FileSink, FileSource, JobConfig
    from orion_beam.countries import profiles_of
    from orion_beam.inspect.job_graph import JobGraph, job_graph
    from orion_beam.inspect.lookalikes import described
    from orion_beam.io.files import DEAD_LETTER_FILE, FINAL_FILE
    from orion_beam.monitoring.minute import telling
    from orion_beam.runners.direct import run_direct
    from orion_beam.runners.flink import TerminatedError, flink_arguments, run_flink
    from orion_beam.runners.flink_parts.beam_options import check_beam_options, check_environment
    from orion_beam.runners.jars.build import ensure_jars
    from orion_beam.runners.job_target import JobTarget
    from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA
    from orion_beam.schemas.derive import arrow_schema
    from orion_beam.telemetry.masking import shown
    from orion_beam.telemetry.run_counters import LINES, SKIPPED

_OF_STREAMS = (
    "countries", "group_id", "publish", "start_from", "value_format", "schema_registry", "reference_refresh",
    "gap_tolerance", "consumer_settings", "producer_settings", "spread_countries", "metrics_port",
    "allow_second_job", "quiet",
)  # fmt: skip
"""Parameters of reading from and writing to Kafka."""


def run(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="COUNTRY=PATH of a file or pipe, one record a line; - is stdin; repeatable."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Text encoding of the --input files: utf-16, latin-1, cp1252…  [default: utf-8]")
    ] = None,
    received_at: Annotated[
        str | None,
        typer.Option(
            help="When the files' records arrived: 2026-01-01T00:00Z, or `modified`: each file's time.  [default: now]"
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(callback=local_path, help="Directory for cdr.final.avro and cdr.dlq.avro.")
    ] = None,
    bootstrap_servers: Annotated[str | None, typer.Option(help="Kafka brokers, host:port,…")] = None,
    countries: CountriesOption = None,
    group_id: GroupId = OWN,
    publish: Publish = "",
    start_from: StartFrom = None,
    value_format: ValueFormatOption = ValueFormat.SINGLE_OBJECT,
    schema_registry: SchemaRegistry = None,
    cells: Cells = CELLS,
    subscribers: Subscribers = SUBSCRIBERS,
    reference_refresh: ReferenceRefresh = "300s",
    tag_partials: TagPartialsOption = False,
    flag_duplicates: FlagDuplicatesOption = False,
    duplicate_window: DuplicateWindow = DUPLICATE_WINDOW,
    detect_gaps: DetectGaps = False,
    gap_tolerance: GapTolerance = "60s",
    consumer_settings: ConsumerSettings = None,
    producer_settings: ProducerSettings = None,
    allow_second_job: AllowSecondJob = False,
    spread_countries: SpreadCountries = False,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port for the metrics of embedded Flink's workers.")
    ] = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    quiet: Quiet = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the job's graph: steps, topics, schemas. Nothing is started.")
    ] = False,
    dot: Annotated[bool, typer.Option("--dot", help="With --dry-run: print the graph in Graphviz's language.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print counts as JSON (with --input), or the graph (with --dry-run).")
    ] = False,
) -> None:
    """Turn raw CDRs into unified ones: from files to files, or from Kafka to Kafka until it is stopped.

    Without a cluster, Flink is embedded, and the stream lives as long as this command. With --flink_master, this is
    `orion-beam submit --attached`. Everything after `--` is handed to Beam untouched.

    Example: orion-beam run --input FR=fr.csv --input TN=tn.jsonl --output out

    Example: orion-beam run --bootstrap-servers localhost:9092 --countries FR -- --parallelism=4

    Example: orion-beam run --input SN=sn.txt --output out --flag-duplicates --detect-gaps --tag-partials

    Example: orion-beam run --bootstrap-servers localhost:9092 --countries FR --dry-run --dot | dot -Tsvg > job.svg
    """
    if dot and not dry_run:
        raise UserError("--dot goes with --dry-run")
    if dot and as_json:
        raise UserError("--dot and --json are two ways to print the graph; give one")
    os.environ |= {FORMAT_VARIABLE: log_format, JOB_VARIABLE: group_id if bootstrap_servers else "files"}
    set_up_logging()
    beam_options = context.args if inputs else beam_arguments(context)
    check_beam_options(beam_options, ["DirectRunner"] if inputs else ["FlinkRunner"])
    check_environment(beam_options)
    reference_version = load_reference(cells, subscribers).version
    options = record_options(
        context,
        beam_options,
        cells=cells,
        subscribers=subscribers,
        tag_partials=tag_partials,
        flag_duplicates=flag_duplicates,
        duplicate_window=duplicate_window,
        detect_gaps=detect_gaps,
        gap_tolerance=gap_tolerance,
    )
    if inputs:
        if output is None or bootstrap_servers is not None:
            raise UserError("--input needs --output DIR, and does not go with --bootstrap-servers")
        refuse_unused(context, _OF_STREAMS, "with --input: only a stream has it")
        started = datetime.now(UTC)
        source = FileSource(
            inputs=_parse_inputs(inputs),
            received_at=_received_at(received_at, started),
            encoding=_parse_encoding(encoding),
        )
        config = _file_config(source, output, options)
        if dry_run:
            _print_graph(job_graph(config), dot=dot, as_json=as_json)
        else:
            _run_files(config, source, started, output, beam_options, reference_version, as_json)
        return
    for option, given in (("--encoding", encoding), ("--received-at", received_at)):
        if given is not None:
            raise UserError(f"{option} goes with --input")
    if bootstrap_servers is None:
        raise UserError("nothing to read: give --input COUNTRY=PATH or --bootstrap-servers HOST:PORT")
    if output is not None:
        raise UserError("--output goes with --input; a stream writes to cdr.final and cdr.dlq")
    if not dry_run:
        why = "without --input or --dry-run: a stream does not end, and `orion-beam top --json` counts"
        refuse_unused(context, ["as_json"], why)
    cluster = JobTarget.of(beam_options)
    if cluster.master is not None or cluster.pool is not None:
        refuse_unused(context, ["metrics_port"], "with workers that `orion-beam workers --metrics-listen` starts")
    stream = Stream.of(
        context,
        bootstrap_servers=bootstrap_servers,
        group_id=group_id,
        countries=countries,
        publish=publish,
        start_from=start_from,
        consumer_settings=consumer_settings,
        producer_settings=producer_settings,
        value_format=value_format,
        schema_registry=schema_registry,
        reference_refresh=reference_refresh,
        spread_countries=spread_countries,
        options=options,
    )
    if dry_run:
        values = value_format if schema_registry is None else ValueFormat.CONFLUENT
        _print_graph(job_graph(stream.config(None), values), dot=dot, as_json=as_json)
    elif cluster.master is not None:
        submit_and_stay(stream, beam_options, allow_second_job=allow_second_job, quiet=quiet)
    else:
        _run_embedded(stream, beam_options, metrics_port, allow_second_job=allow_second_job, quiet=quiet)


def _run_embedded(
    stream: Stream, beam_options: Sequence[str], metrics_port: int | None, *, allow_second_job: bool, quiet: bool
) -> None:
    """Run a stream on embedded Flink until it is stopped."""
    stream.check()
    if not allow_second_job:
        stream.await_free()
    jars = ensure_jars(say)
    config = stream.config(str(jars.expansion_service), second_job=allow_second_job)
    arguments = flink_arguments(jars, beam_options)
    needs = stream.needs
    say(
        f"reading {', '.join(needs.sources)} as group {stream.group_id}, writing {', '.join(needs.sinks)};"
        " Ctrl-C stops it"
    )
    say(f"Beam options: {' '.join(arguments)}")
    lines = telling(stream.bootstrap_servers, stream.group_id, needs.sources, stream.topics, say)
    try:
        with nullcontext() if quiet else lines:
            run_flink(config, arguments, None if metrics_port is None else f"127.0.0.1:{metrics_port}")
    except TerminatedError:
        say("terminated; offsets are committed up to the last checkpoint")
        raise typer.Exit(143) from None


def _print_graph(graph: JobGraph, *, dot: bool, as_json: bool) -> None:
    """Print a graph as tables, in Graphviz's language or as JSON."""
    if dot:
        typer.echo(graph.as_dot())
    elif as_json:
        typer.echo(json.dumps(graph.as_json(), indent=2))
    else:
        console = console_of()
        console.print(_steps(graph), _endpoints(graph))
        console.print("Nothing was started, and no broker was asked.")


def _steps(graph: JobGraph) -> Table:
    table = Table(title=f"Job over {', '.join(graph.countries)}")
    for column in ("step", "takes from", "reads", "writes", "rejects as"):
        table.add_column(column, overflow="fold")
    for step in graph.steps:
        sources = [edge.source for edge in graph.edges if edge.target == step.name and not edge.rejects]
        if rejecting := sum(edge.rejects for edge in graph.edges if edge.target == step.name):
            sources.append(f"dead letters of {rejecting} step{'s' * (rejecting > 1)}")
        table.add_row(step.name, "\n".join(sources), "\n".join(step.reads), "\n".join(step.writes), step.stage)
    return table


def _endpoints(graph: JobGraph) -> Table:
    table = Table()
    for column in ("topic or file", "is", "schema", "values"):
        table.add_column(column, overflow="fold")
    for endpoint in graph.endpoints:
        table.add_row(endpoint.name, endpoint.use, endpoint.schema, endpoint.values)
    return table


def _file_config(source: FileSource, output: Path, options: Mapping[str, object]) -> JobConfig:
    return checked_config(
        countries=tuple(dict.fromkeys(country for country, _ in source.inputs)),
        source=source,
        sink=FileSink(directory=output),
        # A container file has the schema in its own header, so values need no header.
        wire_prefix=b"",
        **options,
    )


def _run_files(
    config: JobConfig,
    source: FileSource,
    started: datetime,
    output: Path,
    beam_arguments: list[str],
    reference_version: str,
    as_json: bool,
) -> None:
    # Here, because it imports HTTP clients for 0.3 s, and streams make no report.
    from orion_beam.telemetry.run_report import REPORT_FILE, RunReport, input_file, output_file

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: {error.strerror}") from None
    for name in (FINAL_FILE, DEAD_LETTER_FILE, REPORT_FILE):
        if (output / name).is_dir():
            raise UserError(f"--output {output}: {name} is a directory there; remove it, or choose another directory")
    outcomes = run_direct(config, beam_arguments)
    summary = counts_summary(outcomes)
    if (lines := summary.get(LINES, 0)) != (came_out := summary["records"] + sum(summary[kind] for kind in SKIPPED)):
        raise JobFailedError(f"{lines} lines were read, and {came_out} came out: this is a bug, please report it")
    RunReport(
        job="run",
        run_id=str(uuid.uuid4()),
        started=started,
        ended=datetime.now(UTC),
        inputs=[input_file(path) for _, path in source.inputs],
        outputs=[
            output_file(output / FINAL_FILE, summary["final"], arrow_schema(config.final_model)),
            output_file(output / DEAD_LETTER_FILE, summary["dead_letters"], DEAD_LETTER_SCHEMA),
        ],
        counts=summary,
        reference_version=reference_version,
    ).write(output / REPORT_FILE)
    if as_json:
        typer.echo(json.dumps(summary | {"output": shown(output)}))
    else:
        console_of().print(counts_table(outcomes))
        typer.echo(f"written to {shown(output)}")
    for country, counts in summary["countries"].items():
        if counts["dead_letters"] and not counts["final"]:
            letters = [letter for letter in _letters(output) if letter["country"] == country]
            what = described([each["value"] for each in letters], country, config.known_profiles, started)
            codes = ", ".join(f"{rows:,} {code}" for code, rows in counts["codes"].items())
            say(f"warning: all records of {country} were rejected ({codes}): {what}", logging.WARNING)


_MOST_LETTERS = 2_000


def _letters(output: Path) -> list[Any]:
    """Return at most _MOST_LETTERS of the dead letters that a run has written."""
    with (output / DEAD_LETTER_FILE).open("rb") as file:
        return list(islice(fastavro.reader(file), _MOST_LETTERS))


def _received_at(text: str | None, started: datetime) -> datetime | None:
    """Return the time that replaces Kafka's timestamp. None: each file's own modification time."""
    return None if text == "modified" else started if text is None else time_of(text, "--received-at")


def _parse_encoding(name: str | None) -> str | None:
    """Return an encoding of text. None: UTF-8, whose bytes are not converted."""
    if name is None:
        return None
    try:
        known = codecs.lookup(name).name
        # Names of codecs from bytes to bytes, such as zlib, fail here.
        b"a".decode(known, "replace")
    except (LookupError, UnicodeError):
        raise UserError(
            f"--encoding {name}: there is no such encoding; give utf-16, latin-1, cp1252 or the like"
        ) from None
    return None if known in ("utf-8", "utf-8-sig", "ascii") else name


_STDIN = Path("/dev/stdin")


def _parse_inputs(inputs: list[str]) -> tuple[tuple[str, Path], ...]:
    parsed: list[tuple[str, Path]] = []
    for text in inputs:
        country, equals, name = text.partition("=")
        if not equals or not name:
            raise UserError(f"--input {text}: expected COUNTRY=PATH, such as FR=fr.csv")
        profiles_of([country])
        path = _STDIN if name == "-" else Path(name)
        if not os.access(path, os.R_OK) or path.is_dir():  # is_dir would raise for a path that is too long
            raise UserError(f"--input {text}: {_why_not(path)}; give a file that can be read")
        if not path.is_file() and path in (given for _, given in parsed):
            raise UserError(f"--input {text}: a pipe can be read only once")
        parsed.append((country, path))
    return tuple(parsed)


def _why_not(path: Path) -> str:
    """Return why a file cannot be read. It is not opened to find out, because the writer of a pipe would notice."""
    try:
        return os.strerror(errno.EISDIR if stat.S_ISDIR(path.stat().st_mode) else errno.EACCES)
    except OSError as error:
        return error.strerror or str(error)
