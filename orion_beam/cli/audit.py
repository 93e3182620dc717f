"""`orion-beam audit`: proof that every raw record came out, or the offsets of those that did not."""

import csv
import json
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from orion_beam.cli.shared.console import console_of, progress_of
from orion_beam.cli.shared.given import local_path
from orion_beam.cli.shared.job_defaults import stages_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.offset_options import held_between, held_offsets, offsets_by_partition, time_of
from orion_beam.cli.shared.options import OWN, DeadLetterTopic, FinalTopic, parse_countries
from orion_beam.defaults import Role
from orion_beam.errors import UserError

with late_imports():
    from orion_beam.access.rights import require_rights
    from orion_beam.access.roles import Resource
    from orion_beam.countries import all_profiles, profiles_of
    from orion_beam.custom_stages.declaration import final_model_of
    from orion_beam.kafka.offset_ranges import READERS_GROUP, OffsetRange, SourcePartition, offset_ranges
    from orion_beam.proof.audit import Audit
    from orion_beam.proof.audit import audit as audit_offsets
    from orion_beam.proof.cdr_reader import CdrReader
    from orion_beam.proof.conservation import ConservationReport
    from orion_beam.proof.tally_processes import MakeReader
    from orion_beam.schema_tools.kept_schemas import kept_schemas
    from orion_beam.schema_tools.registry import check_registry
    from orion_beam.schemas.older import readable_schemas

_RANGES_IN_JSON = 100


def audit(
    context: typer.Context,
    bootstrap_servers: Annotated[str, typer.Option(help="Kafka brokers, host:port,…")],
    countries: Annotated[str | None, typer.Option(help="Countries, all if not given: FR,TN")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Check raw records from this time on: 2026-01-01T00:00Z")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Check raw records before this time: 2026-01-02T00:00Z")
    ] = None,
    offsets: Annotated[
        str | None, typer.Option(help="Instead of times: COUNTRY:PARTITION=FIRST-END,… without END: FR:0=100-2000")
    ] = None,
    final_topic: FinalTopic = OWN,
    dead_letter_topic: DeadLetterTopic = OWN,
    schema_registry: Annotated[
        str | None, typer.Option(help="URL of a schema registry, to read values in Confluent's wire format.")
    ] = None,
    schemas: Annotated[
        list[Path] | None,
        typer.Option("--schema", help="Avro schema of CDRs of another version; repeatable."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "--processes",
            min=1,
            help="Processes that read in parallel.",
            show_default="by records and cores",
        ),
    ] = None,
    missing_output: Annotated[
        Path | None, typer.Option(callback=local_path, help="CSV file to write all missing offsets to.")
    ] = None,
    fail_on_duplicates: Annotated[
        bool, typer.Option("--fail-on-duplicates", help="Also fail when records came out more than once on a topic.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Also fail on duplicates, and on records both written and rejected."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prove that every raw record came out on cdr.final or cdr.dlq, or name those that did not.

    It compares source offsets, so that a record that came out twice counts once. Without --from, --to or --offsets, it
    covers everything that the raw topics hold. Exit code 0 when nothing is missing, 1 otherwise.

    Example: orion-beam audit --bootstrap-servers broker:9092 --countries FR --from 2026-01-01T00:00Z
    """
    wanted = _wanted(bootstrap_servers, countries, start, end, offsets)
    names = {
        Resource.RAW: sorted({part.topic for part in wanted}),
        Resource.FINAL: [final_topic],
        Resource.DEAD_LETTERS: [dead_letter_topic],
        Resource.READERS: [READERS_GROUP],
    }
    require_rights(bootstrap_servers, Role.AUDIT, names)
    own = readable_schemas(final_model_of(stages_of(context)), kept_schemas())
    make_reader = _reader(schema_registry, schemas or [], own.values())
    total = sum(held.offsets for held in offset_ranges(bootstrap_servers, [final_topic, dead_letter_topic]).values())
    with progress_of("reading", total) as advance:
        found = audit_offsets(
            bootstrap_servers,
            wanted,
            final_topic,
            dead_letter_topic,
            make_reader=make_reader,
            advance=advance,
            processes=workers,
        )
    if missing_output is not None:
        _write_missing(found.report, missing_output)
    if as_json:
        typer.echo(json.dumps(_summary(found), indent=2))
    else:
        _print(found)
    report = found.report
    if report.missing or (report.duplicates and (fail_on_duplicates or strict)) or (report.in_both and strict):
        raise typer.Exit(1)


def _wanted(
    bootstrap_servers: str, countries: str | None, start: str | None, end: str | None, offsets: str | None
) -> dict[SourcePartition, OffsetRange]:
    if offsets is not None:
        if countries or start or end:
            raise UserError("--offsets says which records: leave out --countries, --from and --to")
        return held_offsets(bootstrap_servers, offsets_by_partition(offsets, all_profiles()))
    topics = [profile.topic for profile in profiles_of(parse_countries(countries)).values()]
    first = time_of(start, "--from") if start else None
    return held_between(bootstrap_servers, topics, first, time_of(end, "--to") if end else None)


def _reader(registry: str | None, schemas: list[Path], own: Iterable[str]) -> MakeReader:
    if registry is not None:
        check_registry(registry)
    try:
        make_reader = partial(CdrReader, registry, [*own, *(path.read_text(encoding="utf-8") for path in schemas)])
        make_reader()
    except OSError as error:
        raise UserError(f"--schema {error.filename}: {error.strerror}") from None
    except (ValueError, KeyError) as error:
        raise UserError(f"--schema: no Avro schema of CDRs: {error}") from None
    return make_reader


def _write_missing(report: ConservationReport, path: Path) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("topic", "partition", "low", "high"))
            for part in report.partitions:
                rows.writerows((*part.source, *run) for run in part.missing_ranges())
    except OSError as error:
        raise UserError(f"--missing-output {path}: {error.strerror}") from None


def _summary(found: Audit) -> dict[str, Any]:
    report, counts = found.report, found.counts
    return {
        "complete": not report.missing,
        **report.counts(),
        "foreign": dict(counts.foreign),
        "notes": _notes(found),
        "partitions": [
            {
                "topic": part.source.topic,
                "partition": part.source.partition,
                "low": part.held.low,
                "high": part.held.high,
                "empty_offsets": part.empty,
                "final": part.final,
                "dead_letters": part.dead_lettered,
                "missing": part.missing,
                "first_missing": [list(run) for run in islice(part.missing_ranges(), _RANGES_IN_JSON)],
                "in_both": part.in_both,
                "duplicates": part.duplicates,
            }
            for part in report.partitions
        ],
    }


def _print(found: Audit) -> None:
    report = found.report
    table = Table("topic", title="Raw records, by distinct offsets")
    for name in ("records", "final", "dead letters", "missing", "in both", "duplicates"):
        table.add_column(name, justify="right")
    for topic in dict.fromkeys(part.source.topic for part in report.partitions):
        of_topic = ConservationReport(tuple(part for part in report.partitions if part.source.topic == topic))
        counts = (of_topic.records, of_topic.final, of_topic.dead_lettered)
        table.add_row(topic, *(f"{n:,}" for n in (*counts, of_topic.missing, of_topic.in_both, of_topic.duplicates)))
    console_of().print(table)
    for line in (*report.problems, *_notes(found)):
        typer.echo(line)
    typer.echo(_verdict(report))


def _verdict(report: ConservationReport) -> str:
    """Return the last line, which names everything that is wrong."""
    missing = f"{report.missing:,} records are missing" if report.missing else "Nothing is missing"
    too_many = [
        f"{count:,} records {how}"
        for count, how in (
            (report.duplicates, "came out again on the same topic"),
            (report.in_both, "came out on both topics"),
        )
        if count
    ]
    return f"{missing}{' and ' if report.missing else ', but '}{' and '.join(too_many)}." if too_many else f"{missing}."


def _notes(found: Audit) -> list[str]:
    """Return notes that are needed to read the figures."""
    notes = [
        f"{topic}: ORION Beam did not write {count:,} records; the first is {found.counts.first_foreign[topic]}"
        for topic, count in found.counts.foreign.items()
    ]
    for topic, count in found.deleted.items():
        if count and found.report.missing:
            notes.append(
                f"{topic}: its first {count:,} records are deleted, so the raw records that they came from count as"
                " missing: choose a later --from"
            )
    return notes
