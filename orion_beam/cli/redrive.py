"""`orion-beam dlq retest` and `redrive`: test dead letters against today's rules, and send them to the raw topics."""

import hashlib
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from orion_beam.cli.shared.console import console_of, progress_of
from orion_beam.cli.shared.given import refuse_unused
from orion_beam.cli.shared.job_defaults import stages_of
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
    filter_of,
    letters_at,
)
from orion_beam.cli.shared.options import OWN, Cells, DeadLetterTopic, Profiles, Subscribers
from orion_beam.defaults import CELLS, SUBSCRIBERS, Role
from orion_beam.errors import UserError
from orion_beam.telemetry.logs import say
from orion_beam.telemetry.masking import mask_numbers

with late_imports():
    from orion_beam.access.rights import require_rights
    from orion_beam.access.roles import Resource
    from orion_beam.chain import load_reference
    from orion_beam.countries import all_profiles
    from orion_beam.dlq.filters import Selection
    from orion_beam.dlq.judge import Judge
    from orion_beam.kafka.admin import topic_names
    from orion_beam.kafka.offset_ranges import READERS_GROUP
    from orion_beam.redrive.fates import Fate, RedriveReport
    from orion_beam.redrive.journal import journal_topic, read_journal
    from orion_beam.redrive.patches import Patch, load_patch, setting
    from orion_beam.redrive.retest import RetestReport, RetestVerdict
    from orion_beam.redrive.sending import RedriveRun, plan_redrive
    from orion_beam.redrive.sorter import RedriveOptions
    from orion_beam.redrive.targets import Targets


def retest(
    context: typer.Context,
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
    profiles: Profiles = None,
    cells: Cells = CELLS,
    subscribers: Subscribers = SUBSCRIBERS,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts as JSON.")] = False,
) -> None:
    """Run today's rules on dead letters: how many would pass, fail alike, fail differently. Sends nothing."""
    wanted = filter_of(code, country, stage, since, until, offsets, last)
    selection = letters_at(bootstrap_servers, files, dlq_topic, wanted).selection
    judge = Judge(
        selection.topic, load_reference(cells, subscribers, profiles), all_profiles(profiles), stages_of(context)
    )
    report = RetestReport()
    with progress_of("testing", selection.offsets) as advance:
        for read in selection.read(advance, follow=True):
            report.add(read, judge)
    if as_json:
        typer.echo(json.dumps({"topic": selection.topic, "filter": wanted.described()} | report.as_json()))
        return
    table = Table("country", "code", "now", "rules now", title="Dead letters and today's rules")
    table.add_column("letters", justify="right")
    for (country_code, first, verdict, now), count in sorted(report.counts.items()):
        table.add_row(country_code, first, verdict.replace("_", " "), now, f"{count:,}")
    console_of().print(table)
    totals = ", ".join(f"{report.total(verdict):,} {verdict.replace('_', ' ')}" for verdict in RetestVerdict)
    typer.echo(f"of {report.counts.total():,} letters: {totals}; {report.foreign:,} foreign messages")


def redrive(
    context: typer.Context,
    bootstrap_servers: ServersOrFiles = None,
    files: Annotated[Path | None, typer.Option("--input", hidden=True)] = None,
    code: CodeOption = None,
    country: CountryOption = None,
    stage: StageOption = None,
    since: FromOption = None,
    last: LastOption = None,
    until: ToOption = None,
    offsets: OffsetsOption = None,
    dlq_topic: DeadLetterTopic = OWN,
    patch: Annotated[
        Path | None, typer.Option(help="Python file with `def patch(record)`: returns the new payload, or None.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set a field of each record, such as rat=4G; repeatable."),
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate/--no-validate", help="Send only records that today's rules accept.")
    ] = True,
    max_attempts: Annotated[int, typer.Option(help="Do not send letters that have failed so often.", min=1)] = 3,
    rate: Annotated[float | None, typer.Option(help="Largest number of records to send a second.", min=0.1)] = None,
    again: Annotated[bool, typer.Option("--again", help="Also send letters that a redrive has sent before.")] = False,
    restamp: Annotated[
        str | None,
        typer.Option(
            help="Send letters with future_timestamp with the present time, because their Kafka timestamp was wrong;"
            " give the reason, which is noted."
        ),
    ] = None,
    drop_headers: Annotated[
        list[str] | None,
        typer.Option(
            "--drop-header", help="Do not send the source's headers of this name or pattern: b3*; repeatable."
        ),
    ] = None,
    execute: Annotated[
        bool, typer.Option("--execute", help="Send the letters. Without it, only say what would be sent.")
    ] = False,
    cells: Cells = CELLS,
    subscribers: Subscribers = SUBSCRIBERS,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts as JSON.")] = False,
) -> None:
    """Send dead letters back to their raw topics, with the same partition, key and headers, and the attempt plus one.

    This is a dry run unless --execute is given. Each letter is sent at most once, however often redrives are stopped,
    killed and started again: the letter and the note that it was sent are one transaction.
    """
    if files is not None:
        raise UserError(
            "--input: letters of files have no topic to go back to. `orion-beam dlq show` says what is wrong: mend the"
            " records in the file that they are from, and run that again"
        )
    if bootstrap_servers is None:
        raise UserError("redrive needs --bootstrap-servers HOST:PORT")
    wanted = filter_of(code, country, stage, since, until, offsets, last)
    if not validate:
        refuse_unused(context, ["cells", "subscribers"], "with --no-validate: today's rules are not applied")
    function, name = _patch(patch, assignments)
    options = RedriveOptions(
        function, name, validate, max_attempts, rate, again, _reason(restamp), tuple(drop_headers or ())
    )
    selection = Selection.of(bootstrap_servers, dlq_topic, wanted)
    judge = Judge(dlq_topic, load_reference(cells, subscribers), stages=stages_of(context))
    if execute:
        _require_rights(bootstrap_servers, dlq_topic)
    targets = Targets.of(bootstrap_servers, dlq_topic)
    if not execute:
        journal = read_journal(bootstrap_servers) if journal_topic() in topic_names(bootstrap_servers) else {}
        with progress_of("looking", selection.offsets) as advance:
            report = plan_redrive(selection, options, judge, targets, journal, advance)
        _show(report, None, as_json)
        return
    redrive = RedriveRun(selection, options, judge, targets)
    try:
        with progress_of(f"redrive {redrive.id}", selection.offsets) as advance:
            redrive.run(advance)
    except KeyboardInterrupt:
        say(
            f"stopped; redrive {redrive.id} has sent {redrive.report.fates[Fate.SENT]:,}. The same command goes on:"
            " what was sent is not sent again"
        )
        raise
    _show(redrive.report, redrive.id, as_json)


def _require_rights(bootstrap_servers: str, letter_topic: str) -> None:
    """Check the rights to send letters of the raw topics that this user sees."""
    raw = {profile.topic for profile in all_profiles().values()} & topic_names(bootstrap_servers)
    names = {
        Resource.DEAD_LETTERS: [letter_topic],
        Resource.RAW: sorted(raw),
        Resource.JOURNAL: [journal_topic()],
        Resource.READERS: [READERS_GROUP],
    }
    require_rights(bootstrap_servers, Role.DESK, names)


def _patch(patch: Path | None, assignments: list[str] | None) -> tuple[Patch | None, str | None]:
    """Return the change to each record, and its description in the journal."""
    if patch is not None and assignments:
        raise UserError("--patch and --set do not go together: set the field in the patch, by record.with_fields")
    if patch is not None:
        return load_patch(patch), f"{patch.name} sha256:{hashlib.sha256(patch.read_bytes()).hexdigest()}"
    if assignments:
        fields = dict(_assignment(text) for text in assignments)
        return setting(fields), f"set {', '.join(fields)}"
    return None, None


def _reason(text: str | None) -> str | None:
    """Return the reason for another timestamp, with numbers masked because it is stored and sent along."""
    if text is not None and not text.strip():
        raise UserError("--restamp: give the reason, such as 'clock of the gateway at TN-3 was an hour behind'")
    return text and mask_numbers(text)


def _assignment(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise UserError(f"--set {field}: expected FIELD=VALUE, such as rat=4G")
    return field, value


def _show(report: RedriveReport, redrive_id: str | None, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"executed": redrive_id is not None, "id": redrive_id} | report.as_json()))
        return
    table = Table("fate", "country", "code", title="Redrive" if redrive_id else "Redrive: dry run, nothing was sent")
    table.add_column("letters", justify="right")
    for (fate, country, code), count in sorted(report.outcomes.items()):
        table.add_row(fate.replace("_", " "), country, code, f"{count:,}")
    console_of().print(table)
    for fate in Fate:
        if count := report.fates[fate]:
            typer.echo(f"{count:>9,}  {fate.replace('_', ' ')}: {fate.meaning}")
    for failure, count in report.patch_failures.most_common():
        typer.echo(f"{count:>9,}  failures of the patch: {failure}")
    verb = f"redrive {redrive_id} is on {journal_topic()}" if redrive_id else "--execute sends"
    typer.echo(f"{report.read:>9,}  read, each with one fate; {verb}")
