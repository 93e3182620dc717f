"""`orion-beam submit`: a stream as a job on a Flink cluster, which lives on when the command has ended."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from orion_beam.cli.shared.given import local_path, refuse_unused
from orion_beam.cli.shared.job_defaults import beam_arguments
from orion_beam.cli.shared.late import late_imports
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
    duration_of,
)
from orion_beam.cli.shared.stream import Stream, record_options
from orion_beam.cli.shared.submission import Submission, show_jobs, stay_attached, submit_streams, write_jar
from orion_beam.defaults import CELLS, DUPLICATE_WINDOW, SUBSCRIBERS, ValueFormat
from orion_beam.errors import UserError
from orion_beam.telemetry.logs import FORMAT_VARIABLE, JOB_VARIABLE, LogFormat, say, set_up_logging

with late_imports():
    from orion_beam.chain import load_reference
    from orion_beam.runners.flink_parts.beam_options import check_beam_options, check_environment
    from orion_beam.runners.job_target import JobTarget
    from orion_beam.telemetry.masking import shown

_OF_A_CLUSTER = (
    "attached", "savepoint", "allow_non_restored", "replace", "allow_second_job", "wait", "quiet",
    "split_by_country",
)  # fmt: skip
"""Parameters that a job needs to start."""


def submit(
    context: typer.Context,
    bootstrap_servers: Annotated[str | None, typer.Option(help="Kafka brokers, host:port,…")] = None,
    countries: CountriesOption = None,
    split_by_country: Annotated[
        bool, typer.Option("--split-by-country", help="Submit a job for each country, instead of one for all.")
    ] = False,
    to_jar: Annotated[
        Path | None,
        typer.Option(
            callback=local_path,
            help="Write the job into this jar instead, which `flink run`, Flink's REST API or an application cluster"
            " starts. No broker and no cluster is asked.",
        ),
    ] = None,
    attached: Annotated[
        bool,
        typer.Option(
            "--attached",
            help="Stay, and tell how the job gets on. Ctrl-C leaves the job running, a second one cancels it.",
        ),
    ] = False,
    savepoint: Annotated[
        str | None,
        typer.Option(
            "--from-savepoint",
            help="Savepoint or retained checkpoint to restore, as the cluster sees it.",
            show_default="the group's committed offsets",
        ),
    ] = None,
    allow_non_restored: Annotated[
        bool,
        typer.Option("--allow-non-restored-state", help="Start although no step takes some state of the savepoint."),
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="If the job runs, stop it with a savepoint, and start this one from it."),
    ] = False,
    savepoint_dir: Annotated[
        str | None,
        typer.Option(
            help="With --replace: where the savepoint of the running job goes, as the cluster sees it.",
            show_default="the cluster's state.savepoints.dir",
        ),
    ] = None,
    wait: Annotated[str, typer.Option(help="Longest wait for the first checkpoint: 90s, 5m.")] = "5m",
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
    log_format: LogFormatOption = LogFormat.TEXT,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the jobs, or what the jar holds, as JSON.")] = False,
) -> None:
    """Submit a stream from Kafka to Kafka to a Flink cluster, and end when the job has completed its first checkpoint.

    The job lives on. A job whose group and countries are read by a job on the cluster is refused. The options are those
    of `orion-beam run`, and Beam's, after `--`, say which cluster and which workers. Exit code 2 if nothing was
    submitted, and 1 if a job fails before its first checkpoint.

    Example: orion-beam submit --bootstrap-servers broker:9092 --countries FR -- --flink_master=http://jobmanager:8081
    --environment_type=EXTERNAL --environment_config=localhost:50000 --parallelism=4

    Example: orion-beam submit --split-by-country

    Example: orion-beam submit --countries FR --to-jar fr.jar
    """
    os.environ |= {FORMAT_VARIABLE: log_format, JOB_VARIABLE: group_id}
    set_up_logging()
    if bootstrap_servers is None:
        raise UserError("nothing to read: give --bootstrap-servers HOST:PORT, or `brokers` in orion.yaml")
    beam_options = beam_arguments(context)
    check_beam_options(beam_options, ["FlinkRunner"])
    if to_jar is not None:
        refuse_unused(context, _OF_A_CLUSTER, "with --to-jar: one jar is written, and nothing starts")
        # Whatever cluster starts the jar, its task managers need workers.
        check_environment([*beam_options, "--flink_master=any:8081"])
        if not os.access(to_jar.absolute().parent, os.W_OK):
            raise UserError(f"--to-jar {to_jar}: there is no directory {to_jar.absolute().parent} to write to")
    elif JobTarget.of(beam_options).master is None:
        raise UserError(
            "no cluster to submit to: give -- --flink_master=http://HOST:PORT, Flink's REST address, or flink.master in"
            " orion.yaml; `orion-beam run` has an embedded Flink"
        )
    else:
        check_environment(beam_options)
    if not attached:
        refuse_unused(context, ["quiet"], "without --attached")
    if not replace:
        refuse_unused(context, ["savepoint_dir"], "without --replace")
    patience_s = duration_of(wait, "--wait")
    load_reference(cells, subscribers)
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
        options=record_options(
            context,
            beam_options,
            cells=cells,
            subscribers=subscribers,
            tag_partials=tag_partials,
            flag_duplicates=flag_duplicates,
            duplicate_window=duplicate_window,
            detect_gaps=detect_gaps,
            gap_tolerance=gap_tolerance,
        ),
    )
    if to_jar is not None:
        manifest = write_jar(stream, beam_options, to_jar)
        if as_json:
            typer.echo(json.dumps({"jar": shown(to_jar)} | manifest.model_dump(mode="json")))
        else:
            typer.echo(f"{manifest.name} is in {shown(to_jar)}")
            say(f"start it with: flink run --detached {shown(to_jar)}")
        return
    streams = stream.by_country() if split_by_country else [stream]
    if len(streams) > 1 and (attached or savepoint is not None):
        raise UserError(
            "--attached and --from-savepoint are for one job: leave out --split-by-country, or give one of --countries"
        )
    submission = Submission(
        savepoint=savepoint,
        allow_non_restored=allow_non_restored,
        allow_second_job=allow_second_job,
        replace=replace,
        savepoint_dir=savepoint_dir,
        patience_s=patience_s,
    )
    jobs = submit_streams(streams, beam_options, submission)
    show_jobs(jobs, as_json=as_json)
    if attached:
        stay_attached(jobs[0], stream, quiet=quiet)
