"""`orion-beam replay`: run exactly the retained raw records of a time or of offsets through the pipeline again."""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.given import given_options, local_path, refuse_unused
from orion_beam.cli.shared.job_defaults import beam_arguments, job_of, stages_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.offset_options import range_of, time_of
from orion_beam.cli.shared.options import (
    OWN,
    Cells,
    CountriesOption,
    DeadLetterTopic,
    DuplicateWindow,
    FinalTopic,
    FlagDuplicatesOption,
    ProducerSettings,
    Profiles,
    Subscribers,
    TagPartialsOption,
    absolute,
    check_balance,
    checked_config,
    duration_of,
    parse_countries,
    parse_list,
    parse_pairs,
    refuse_unused_checks,
    refuse_unused_format,
    wire_prefix_of,
)
from orion_beam.defaults import (
    CELLS,
    DUPLICATE_WINDOW,
    SUBSCRIBERS,
    FileFormat,
    Role,
    ValueFormat,
)
from orion_beam.errors import UserError

with late_imports():
    from orion_beam.access.rights import require_rights
    from orion_beam.access.roles import Resource
    from orion_beam.chain import load_reference
    from orion_beam.cli.shared.counts import counts_summary, counts_table
    from orion_beam.config import FileSink, KafkaRanges, KafkaSink
    from orion_beam.countries import all_profiles, profile_source, profiles_of
    from orion_beam.custom_stages.declaration import final_model_of
    from orion_beam.io.files import DEAD_LETTER_DIRECTORY, FINAL_DIRECTORY
    from orion_beam.kafka.admin import require_topics
    from orion_beam.kafka.clients import producer_config
    from orion_beam.kafka.offset_ranges import READERS_GROUP, Advance, OffsetRange, SourcePartition
    from orion_beam.replay.plan import PartitionPlan, lanes_of, plan_offsets, plan_times, round_of
    from orion_beam.replay.runs import Replay, Run, files_of_others
    from orion_beam.runners.flink import TerminatedError, flink_arguments, run_flink_bounded
    from orion_beam.runners.flink_parts.beam_options import check_beam_options, check_environment
    from orion_beam.runners.jars.build import ensure_jars, orion_home
    from orion_beam.runners.job_target import JobTarget
    from orion_beam.runners.replay import do_chunks, run_replay
    from orion_beam.schemas.country import CountryProfile
    from orion_beam.telemetry.run_counters import READ, RowOutcome

ASSUMED_RATE = 100_000
"""CDRs per second that the estimate assumes."""

_OFFSETS_A_FLINK_JOB = 50_000_000
"""Most offsets that a killed replay on Flink repeats. A job takes about ten seconds to start, and minutes to run."""


def replay(
    context: typer.Context,
    bootstrap_servers: Annotated[str | None, typer.Option(help="Kafka brokers, host:port,…")] = None,
    countries: CountriesOption = None,
    start: Annotated[
        str | None, typer.Option("--from", help="First Kafka timestamp, with its zone: 2026-01-01T00:00Z")
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", help="Kafka timestamp to stop before, with its zone.", show_default="all there is now"),
    ] = None,
    last: Annotated[str | None, typer.Option(help="Instead of --from: start so long before now: 90s, 30m, 6h")] = None,
    offsets: Annotated[
        str | None, typer.Option(help="Instead of times: COUNTRY:PARTITION=FIRST-END,… without END: FR:0=100-2000")
    ] = None,
    final_topic: FinalTopic = OWN,
    dead_letter_topic: DeadLetterTopic = OWN,
    output: Annotated[
        Path | None, typer.Option(callback=local_path, help="Write files to this directory instead of topics.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete files of other replays from the --output directory first.")
    ] = False,
    file_format: Annotated[
        FileFormat, typer.Option("--format", help="Format of the --output files.")
    ] = FileFormat.PARQUET,
    value_format: Annotated[
        ValueFormat, typer.Option(help="How values on the topic are written.")
    ] = ValueFormat.SINGLE_OBJECT,
    schema_registry: Annotated[
        str | None, typer.Option(help="URL of a schema registry; values then have Confluent's wire format.")
    ] = None,
    profiles: Profiles = None,
    cells: Cells = CELLS,
    subscribers: Subscribers = SUBSCRIBERS,
    tag_partials: TagPartialsOption = False,
    flag_duplicates: FlagDuplicatesOption = False,
    duplicate_window: DuplicateWindow = DUPLICATE_WINDOW,
    producer_settings: ProducerSettings = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Python processes of the DirectRunner.")] = 2,
    run_id: Annotated[
        str | None,
        typer.Option(help="Name of the replay; each record holds it as run_id.", show_default="made from the time"),
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this replay; nothing else is needed.")] = None,
    allow_truncated: Annotated[
        bool, typer.Option("--allow-truncated", help="Go on although the start of the range is deleted.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan only.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print plan and counts as JSON; do not ask.")] = False,
) -> None:
    """Run the retained raw records of a time range, or of offsets, through the pipeline again.

    A replay that was stopped, in whatever way, continues with --resume. Arguments after `--` are Beam's;
    `-- --runner=FlinkRunner` runs the replay on Flink.

    Example: orion-beam replay --bootstrap-servers localhost:9092 --countries FR --last 6h --output out

    Example: orion-beam replay --bootstrap-servers localhost:9092 --countries FR,TN
    --from 2026-01-01T00:00Z --to 2026-01-02T00:00Z --final-topic cdr.final.repaired -- --runner=FlinkRunner
    """
    runs = orion_home() / "runs"
    if resume is not None:
        why = "with --resume, which goes on as planned"
        refuse_unused(context, given_options(context).keys() - {"resume", "yes", "as_json"}, why)
        if context.args:
            raise UserError(f"{context.args[0]}: no effect {why}; leave it out")
        planned_before = Run.load(runs, resume)
        _refuse_others(planned_before.replay, "they would be read beside it; delete them")
        _run(planned_before, as_json)
        return
    if bootstrap_servers is None:
        raise UserError("nothing to read: give --bootstrap-servers HOST:PORT")
    on_flink = _is_flink(context.args)
    beam_options = beam_arguments(context) if on_flink else context.args
    check_beam_options(beam_options)
    check_environment(beam_options)
    check_balance(flag_duplicates, beam_options)
    _refuse_unused(context, flag_duplicates, output is not None, on_flink)
    refuse_unused_format(context, value_format, schema_registry)
    cluster = JobTarget.of(beam_options) if on_flink else None
    reference = load_reference(cells, subscribers)
    producer = parse_pairs(producer_settings, "--producer-config")
    producer_config(bootstrap_servers, producer)
    asked = asked_for(start, end, last, offsets)
    codes = countries_of(asked, countries, profiles)
    chosen = profiles_of(codes, profiles)
    sink: FileSink | KafkaSink
    stages = stages_of(context)
    if output is None:
        sink = KafkaSink(
            bootstrap_servers=bootstrap_servers,
            producer_config=producer,
            final_topic=final_topic,
            dead_letter_topic=dead_letter_topic,
        )
        if {final_topic, dead_letter_topic} & {profile.topic for profile in all_profiles(profiles).values()}:
            raise UserError("a raw topic is no place for results: choose another --final-topic and --dead-letter-topic")
        require_topics(bootstrap_servers, [final_topic, dead_letter_topic])
        wire_prefix = wire_prefix_of(value_format, schema_registry, final_topic, final_model_of(stages))
    else:
        if cluster is not None and cluster.master is not None:
            raise UserError("--output: a cluster does not see this machine's files; leave --flink_master out")
        if output.exists() and not output.is_dir():
            raise UserError(f"--output {output} is a file: give a directory")
        sink, wire_prefix = FileSink(directory=output.absolute(), file_format=file_format), b""
    raw = [chosen[code].topic for code in codes]
    targets = {} if output is not None else {Resource.FINAL: [final_topic], Resource.DEAD_LETTERS: [dead_letter_topic]}
    require_rights(bootstrap_servers, Role.REPLAY, {Resource.RAW: raw, Resource.READERS: [READERS_GROUP], **targets})
    plans = asked.plan(bootstrap_servers, chosen.values())
    name = run_id or datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")[:-3]
    planned = Replay(
        run_id=name,
        created_at=datetime.now(UTC),
        job=checked_config(
            countries=codes,
            source=KafkaRanges(bootstrap_servers=bootstrap_servers, lanes=()),
            sink=sink,
            wire_prefix=wire_prefix,
            cells=absolute(cells),
            subscribers=absolute(subscribers),
            run_id=name,
            tag_partials=tag_partials,
            flag_duplicates=flag_duplicates,
            duplicate_window=duplicate_window,
            profile_source=profile_source(profiles),
            stages=stages,
        ),
        partitions=tuple(plans),
        lanes=lanes_of(plans, workers if cluster is None else cluster.parallelism),
        workers=workers,
        beam_arguments=tuple(beam_options),
        reference_version=reference.version,
    )
    notes = _notes(context, planned)
    if not as_json:
        _show(planned, notes)
    truncated = [plan for plan in plans if plan.is_truncated]
    if dry_run:
        if as_json:
            typer.echo(json.dumps(_plan_json(planned) | {"notes": notes}))
        return
    if not replace:
        _refuse_others(planned, "a reader would get records twice; --replace deletes them")
    if truncated and not allow_truncated:
        more = f" (and {len(truncated) - 1} more partitions)" if len(truncated) > 1 else ""
        raise UserError(f"{truncated[0].truncation}{more}; --allow-truncated goes on with what is left")
    if not (yes or as_json):
        if not sys.stdin.isatty():
            raise UserError("there is no terminal to ask at: give --yes")
        deletes = f", and delete {_words(others)}" if (others := _others(planned)) else ""
        typer.confirm(f"Replay these records to {_target(planned)}{deletes}?", abort=True, err=True)
    run = Run.create(runs, planned)
    for path in _others(planned) if replace else ():
        path.unlink()
    _run(run, as_json, notes)


def _refuse_unused(context: typer.Context, flag_duplicates: bool, to_files: bool, on_flink: bool) -> None:
    """Refuse options that were given but would have no effect."""
    refuse_unused_checks(context, flag_duplicates)
    if to_files:
        of_topics = ["final_topic", "dead_letter_topic", "value_format", "schema_registry", "producer_settings"]
        refuse_unused(context, of_topics, "with --output DIR, which writes files and no topics")
    else:
        refuse_unused(context, ["file_format", "replace"], "without --output DIR: topics would be written")
    if on_flink:
        refuse_unused(context, ["workers"], "with --runner=FlinkRunner, which has --parallelism")


def _others(replay: Replay) -> list[Path]:
    """Return the files that other replays have left in this replay's directory."""
    sink = replay.job.sink
    return files_of_others(sink.directory, replay.run_id) if isinstance(sink, FileSink) else []


def _refuse_others(replay: Replay, why: str) -> None:
    if others := _others(replay):
        raise UserError(f"{_target(replay)} holds {_words(others)}: {why}")


def _words(others: list[Path]) -> str:
    return f"{len(others):,} files of other replays ({others[0].name}{', …' if len(others) > 1 else ''})"


def _targets(replay: Replay) -> tuple[str, str]:
    """Return the targets of CDRs and of dead letters."""
    sink = replay.job.sink
    if isinstance(sink, FileSink):
        return str(sink.directory / FINAL_DIRECTORY), str(sink.directory / DEAD_LETTER_DIRECTORY)
    return sink.final_topic, sink.dead_letter_topic


def _target(replay: Replay) -> str:
    """Return the targets as a text for people."""
    sink = replay.job.sink
    if isinstance(sink, FileSink):
        return f"the directory {sink.directory}"
    return f"the topics {sink.final_topic} and {sink.dead_letter_topic} at {sink.bootstrap_servers}"


def _notes(context: typer.Context, replay: Replay) -> list[str]:
    """Return notes that the user must know before confirming a plan."""
    notes = [plan.early_end for plan in replay.partitions if plan.early_end is not None]
    given = given_options(context)
    is_told = job_of(context) is not None or given.keys() & {"tag_partials", "flag_duplicates"}
    if isinstance(replay.job.sink, KafkaSink) and not is_told:
        notes.append(
            "neither --tag-partials nor --flag-duplicates: if the stream's job has them, give them here, too, for a"
            " record replaces the stream's of the same cdr_id"
        )
    return notes


@dataclass(frozen=True)
class Asked:
    """Records that the user wants to read: a time range (without an end: up to the present), or offsets."""

    start: datetime | None
    end: datetime | None
    offsets: tuple[tuple[str, int, OffsetRange], ...]

    def plan(self, bootstrap_servers: str, profiles: Iterable[CountryProfile]) -> list[PartitionPlan]:
        """Resolve the request to the offsets of each partition."""
        topics = {profile.code: profile.topic for profile in profiles}
        if self.start is not None:
            return plan_times(bootstrap_servers, topics.values(), self.start, self.end)
        wanted = {SourcePartition(topics[code], partition): held for code, partition, held in self.offsets}
        return plan_offsets(bootstrap_servers, wanted)


def asked_for(start: str | None, end: str | None, last: str | None, offsets: str | None) -> Asked:
    """Return the records that the options ask for.

    Raises:
        UserError: the options contradict each other, or one is invalid.
    """
    kinds = [name for name, given in (("--from", start), ("--last", last), ("--offsets", offsets)) if given]
    if len(kinds) != 1 or (end is not None and start is None):
        raise UserError("which records? give one of --from (and --to), --last or --offsets")
    now = datetime.now(UTC)
    if offsets is not None:
        ranges = tuple(range_of(text) for text in parse_list(offsets))
        if len({(code, partition) for code, partition, _ in ranges}) != len(ranges):
            raise UserError("--offsets names a partition twice")
        return Asked(None, None, ranges)
    if last is not None:
        return Asked(now - timedelta(seconds=duration_of(last, "--last")), None, ())
    first, until = time_of(start or "", "--from"), time_of(end, "--to") if end else None
    if first >= (until or now):
        raise UserError(
            f"the replay would start at {first.isoformat()} and end before, at {(until or now).isoformat()}"
        )
    return Asked(first, until, ())


def countries_of(asked: Asked, countries: str | None, profiles: Path | None) -> tuple[str, ...]:
    """Return the countries to read: those named, or the default ones.

    Raises:
        UserError: both --offsets and --countries name countries.
    """
    named = tuple(dict.fromkeys(code for code, _, _ in asked.offsets))
    if named:
        if countries:
            raise UserError("--offsets names the countries itself: leave --countries out")
        return named
    return parse_countries(countries, profiles)


def _is_flink(beam_arguments: Iterable[str]) -> bool:
    arguments = list(beam_arguments)
    return "--runner=FlinkRunner" in arguments or ("--runner", "FlinkRunner") in pairwise(arguments)


def _show(replay: Replay, notes: Iterable[str]) -> None:
    """Print the plan, with one line per topic, and everything unusual."""
    size = sum(plan.bytes_estimated for plan in replay.partitions)
    table = Table("topic", title=f"Replay {replay.run_id}")
    for name in ("partitions", "of them empty", "records", "from", "MB"):
        table.add_column(name, justify="right")
    for topic in dict.fromkeys(plan.topic for plan in replay.partitions):
        plans = [plan for plan in replay.partitions if plan.topic == topic]
        first = min((plan.first_at for plan in plans if plan.offsets and plan.first_at), default=None)
        table.add_row(
            topic,
            str(len(plans)),
            str(sum(plan.offsets == 0 for plan in plans)),
            f"{sum(plan.offsets for plan in plans):,}",
            first.isoformat(timespec="seconds") if first else "",
            f"{sum(plan.bytes_estimated for plan in plans) / 1e6:,.1f}",
        )
    console = console_of(stderr=True)
    console.print(table)
    for plan in replay.partitions:
        if plan.is_truncated:
            console.print(plan.truncation, style="yellow", markup=False)
    for note in notes:
        console.print(note, style="yellow", markup=False)
    console.print(
        f"At most {replay.offsets:,} records, about {size / 1e6:,.1f} MB, some {replay.offsets / ASSUMED_RATE:,.0f} s"
        f" at {ASSUMED_RATE:,} records/s; to {_target(replay)}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _plan_json(replay: Replay) -> dict[str, object]:
    return {
        "run_id": replay.run_id,
        "targets": dict(zip(("final", "dead_letters"), _targets(replay), strict=True)),
        "offsets": replay.offsets,
        "bytes_estimated": sum(plan.bytes_estimated for plan in replay.partitions),
        "seconds_estimated": replay.offsets / ASSUMED_RATE,
        "partitions": [plan.model_dump(mode="json") for plan in replay.partitions],
        "truncated": [plan.truncation for plan in replay.partitions if plan.is_truncated],
    }


def _run(run: Run, as_json: bool, notes: Iterable[str] = ()) -> None:
    """Run the rest of a replay, and print the outcomes of all of it."""
    planned = run.replay
    done = sum(planned.chunks[number].offsets for number in run.outcomes())
    started = time.monotonic()
    with run.locked():
        try:
            with _progress(planned.offsets, done, as_json) as advance:
                if _is_flink(planned.beam_arguments):
                    _run_on_flink(run, advance)
                else:
                    run_replay(run, advance)
        except BaseException as error:
            _say(f"not finished: go on with `orion-beam replay --resume {planned.run_id}`")
            if isinstance(error, TerminatedError):
                raise typer.Exit(143) from None
            raise
    took = time.monotonic() - started
    outcomes: Counter[RowOutcome] = Counter()
    for counts in run.outcomes().values():
        outcomes.update(counts)
    read = sum(rows for outcome, rows in outcomes.items() if outcome.kind == READ)
    written = {outcome: rows for outcome, rows in outcomes.items() if outcome.kind != READ}
    summary = counts_summary(written)
    report = run.write_report(summary)
    if as_json:
        more = {"notes": list(notes), "seconds": took, "resumed_behind": done, "report": str(report)}
        typer.echo(json.dumps(_plan_json(planned) | summary | more))
        return
    console_of().print(counts_table(written))
    if gaps := planned.offsets - read:
        _say(f"{gaps:,} of {planned.offsets:,} offsets hold no record: transaction markers, or compacted away")
    _say(f"replay {planned.run_id} is done: {planned.offsets - done:,} offsets in {took:,.0f} s; {report}")


def _run_on_flink(run: Run, advance: Advance) -> None:
    """Run the rest of a replay as bounded jobs, one after another; each job is done as a whole or not at all."""
    while lanes := round_of(run.left(), _OFFSETS_A_FLINK_JOB):
        arguments = flink_arguments(ensure_jars(_say), run.replay.beam_arguments, bounded=True)
        job = _JobProgress(advance, sum(chunk.offsets for lane in lanes for chunk in lane))
        do_chunks(run, lanes, partial(run_flink_bounded, arguments=arguments, advance=job.tell))
        job.tell(job.left)


class _JobProgress:
    """Passes on the progress of a job, up to its number of offsets, because a retry reads records again."""

    def __init__(self, advance: Advance, offsets: int) -> None:
        self._advance = advance
        self.left = offsets

    def tell(self, offsets: int) -> None:
        more = min(offsets, self.left)
        self.left -= more
        self._advance(more)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f}/s")


@contextmanager
def _progress(offsets: int, done: int, is_quiet: bool) -> Iterator[Advance]:
    """Show the progress; yield the function that is told of each step."""
    columns = (
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,} records"),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console_of(stderr=True), disable=is_quiet) as progress:
        task = progress.add_task("replay", total=offsets, completed=done)
        yield lambda more: progress.advance(task, more)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
