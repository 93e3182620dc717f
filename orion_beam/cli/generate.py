"""`orion-beam generate`: synthetic CDRs of several countries, written to Kafka or to files."""

import json
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from orion_beam.cli.shared.console import console_of
from orion_beam.cli.shared.given import local_path
from orion_beam.cli.shared.late import late_imports
from orion_beam.cli.shared.offset_options import time_of
from orion_beam.cli.shared.options import parse_countries
from orion_beam.errors import UserError

with late_imports():
    from orion_beam.countries import profiles_of
    from orion_beam.generator import GeneratedBatch, generate_batches
    from orion_beam.generator.batches import GENERATED_ROWS
    from orion_beam.generator.population import population_of
    from orion_beam.generator.sinks import GeneratedFiles, GeneratedTopics, Sink
    from orion_beam.schemas.country import CountryProfile

_LEAST_RATE = 0.001
_FIRST_YEAR, _LAST_YEAR = 2000, 2100
_TICK_S = 0.01
# A paced batch holds one second of CDRs. Making one takes so little time that the next records are hardly late.
_PACED_BATCHES_PER_S = 1
# CDRs that are sent at a rate are made before the clock starts, as far as memory allows. Sending takes a tenth of the
# CPU that making takes, so the generator then disturbs measurements on the same machine less.
_AHEAD_S = 30
_MOST_AHEAD = 500_000

_Prepared = tuple[list[Any], list[str | None]]
"""Items ready to send, and the code that each must be rejected with."""


class _Stream:
    """CDRs of one country on their way to the sink."""

    def __init__(self, profile: CountryProfile, batches: Iterator[GeneratedBatch], sink: Sink) -> None:
        self.profile = profile
        self.sent = 0
        self.codes: Counter[str] = Counter()
        self._batches, self._sink = batches, sink
        self._made: deque[_Prepared] = deque()
        self._items: list[Any] = []
        self._expected_codes: list[str | None] = []
        self._position = 0
        self.is_finished = False

    def make_ahead(self, rows: int) -> None:
        """Make CDRs before they are due: at least `rows`, or all that remain."""
        while rows > 0 and (batch := next(self._batches, None)) is not None:
            self._made.append(self._prepare(batch))
            rows -= len(batch)

    def _prepare(self, batch: GeneratedBatch) -> _Prepared:
        return self._sink.prepare(batch), batch.expected_code.to_list()

    def send(self, rows: int) -> int:
        """Send at most `rows` CDRs of one batch and return their number; 0 when there are no more."""
        if self._position == len(self._items):
            if not self._made:
                self.make_ahead(1)
            self._position = 0
            if not self._made:
                self._items, self.is_finished = [], True
                return 0
            self._items, self._expected_codes = self._made.popleft()
        first, last = self._position, min(self._position + rows, len(self._items))
        self._sink.send(self.profile, self._items if last - first == len(self._items) else self._items[first:last])
        self.codes.update(filter(None, self._expected_codes[first:last]))
        self._position = last
        self.sent += last - first
        return last - first


class _RateColumn(ProgressColumn):
    """Shows records per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s")


def _progress() -> Progress:
    console = console_of(stderr=True)
    return Progress(
        TextColumn("CDRs"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _send_all(streams: Sequence[_Stream]) -> Iterator[int]:
    """Send everything as fast as possible, one batch of each country in turn; yield the number of CDRs of each step."""
    while running := [stream for stream in streams if not stream.is_finished]:
        for stream in running:
            yield stream.send(GENERATED_ROWS)


def _send_paced(streams: Sequence[_Stream], rate: float) -> Iterator[int]:
    """Send `rate` CDRs per second, evenly and in equal shares of the countries; yield the number of each step."""
    share = rate / len(streams)
    for stream in streams:
        stream.make_ahead(round(min(_AHEAD_S * share, _MOST_AHEAD / len(streams))))
    started = time.monotonic()
    while running := [stream for stream in streams if not stream.is_finished]:
        due = (time.monotonic() - started) * share
        for stream in running:
            while (rows := int(due) - stream.sent) > 0 and (sent := stream.send(rows)):
                yield sent
        time.sleep(_TICK_S)


def _parsed_start(text: str) -> datetime:
    start = time_of(text, "--start")
    if not _FIRST_YEAR <= start.year <= _LAST_YEAR:
        raise UserError(f"--start {text!r} is too far away: expected a year from {_FIRST_YEAR} to {_LAST_YEAR}")
    return start


def _check(
    count: int | None, rate: float | None, fault_rate: float, bootstrap_servers: str | None, output: Path | None
) -> None:
    if count is None and rate is None:
        raise UserError("give --count N, or --rate R (records a second), or both")
    if count is not None and count < 1:
        raise UserError(f"--count must be at least 1, not {count}")
    if rate is not None and not _LEAST_RATE <= rate < float("inf"):
        raise UserError(f"--rate must be at least {_LEAST_RATE} records a second, not {rate}")
    if not 0 <= fault_rate <= 1:
        raise UserError(f"--fault-rate must be from 0 to 1, not {fault_rate}")
    if (bootstrap_servers is None) == (output is None):
        raise UserError("give either --bootstrap-servers HOST:PORT or --output DIR")


def _selected(countries: str | None) -> list[CountryProfile]:
    return list(profiles_of(parse_countries(countries)).values())


def _streams(
    profiles: Sequence[CountryProfile],
    sink: Sink,
    *,
    count: int | None,
    rate: float | None,
    start: datetime,
    seed: int,
    fault_rate: float,
    fits_lines: bool,
) -> list[_Stream]:
    """Return one stream per country; their counts differ by one at most, and their rates are equal."""
    share = None if rate is None else rate / len(profiles)
    batch_rows = GENERATED_ROWS if share is None else min(GENERATED_ROWS, max(1, int(share / _PACED_BATCHES_PER_S)))
    streams = []
    for index, profile in enumerate(profiles):
        rows = None if count is None else (count + len(profiles) - 1 - index) // len(profiles)
        batches = generate_batches(
            profile,
            rows,
            seed,
            fault_rate,
            batch_rows=batch_rows,
            start=start,
            rows_per_second=share,
            fits_lines=fits_lines,
        )
        streams.append(_Stream(profile, batches, sink))
    return streams


def _print_summary(streams: Sequence[_Stream], seconds: float, as_json: bool) -> None:
    records = sum(stream.sent for stream in streams)
    faulty = sum(stream.codes.total() for stream in streams)
    rate = round(records / seconds) if seconds else 0
    if not as_json:
        for stream in streams:
            typer.echo(f"{stream.profile.code}  {stream.sent:>12,} records  {stream.codes.total():>10,} faulty")
        typer.echo(f"{records:,} records, {faulty:,} of them faulty, in {seconds:.1f} s: {rate:,} records/s")
        return
    countries = {
        stream.profile.code: {
            "records": stream.sent,
            "faulty": stream.codes.total(),
            "expected_codes": dict(sorted(stream.codes.items())),
        }
        for stream in streams
    }
    summary = {
        "records": records,
        "faulty": faulty,
        "seconds": round(seconds, 3),
        "records_per_second": rate,
        "countries": countries,
    }
    typer.echo(json.dumps(summary, indent=2))


def generate(
    countries: Annotated[
        str | None, typer.Option(help="Country codes, such as FR,TN.", show_default="FR,MA,SN,TN")
    ] = None,
    count: Annotated[int | None, typer.Option(help="How many records, over all countries.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Records a second, over all countries; until Ctrl-C, or until --count.")
    ] = None,
    fault_rate: Annotated[float, typer.Option(help="Share of faulty records, 0 to 1.")] = 0.0,
    seed: Annotated[
        int, typer.Option(help="Seed of the random numbers: the same seed and --start give the same records.")
    ] = 0,
    start: Annotated[
        str | None,
        typer.Option(
            help="When the first record is sent, as ISO 8601; its event lies shortly before.", show_default="now"
        ),
    ] = None,
    bootstrap_servers: Annotated[str | None, typer.Option(help="Kafka brokers, host:port,…")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            callback=local_path,
            help="Directory to write to: one file a country, one record a line; replaces old files.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Generate raw CDRs, each country in its own formats, to Kafka or to files.

    Example: orion-beam generate --countries FR,TN --count 100000 --fault-rate 0.02 --output cdrs
    """
    _check(count, rate, fault_rate, bootstrap_servers, output)
    profiles = _selected(countries)
    given_start = None if start is None else _parsed_start(start)
    sink: Sink
    if bootstrap_servers is not None:
        # A paced record is sent when it arrives, so it gets the present time as its Kafka timestamp.
        sink = GeneratedTopics(bootstrap_servers, profiles, stamps_now=rate is not None and given_start is None)
    else:
        assert output is not None
        sink = GeneratedFiles(output, profiles)
    with sink, _progress() as progress:
        # Populations are made before the clock starts, so that the first paced records are not late.
        for profile in profiles:
            population_of(profile)
        began = time.monotonic()
        streams = _streams(
            profiles,
            sink,
            count=count,
            rate=rate,
            start=given_start or datetime.now(UTC),
            seed=seed,
            fault_rate=fault_rate,
            fits_lines=output is not None,
        )
        task = progress.add_task("CDRs", total=count)
        try:
            for sent in _send_all(streams) if rate is None else _send_paced(streams, rate):
                progress.advance(task, sent)
        except KeyboardInterrupt:
            # Ctrl-C is the normal end of an endless run, so its counts are printed.
            if count is not None:
                raise
    _print_summary(streams, time.monotonic() - began, as_json)
