"""View of `orion-beam demo`: a live table, or a line every few seconds without a terminal, and a summary."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from orion_beam.cli.shared.console import console_of
from orion_beam.schemas.codes import Code
from orion_beam.telemetry.masking import mask
from orion_beam.topics.names import own_topics

_RATE_WINDOW_S = 3.0
_LINE_INTERVAL_S = 5.0
_PLAIN_WIDTH = 140


@dataclass(frozen=True)
class CountryProgress:
    """Progress of one country, or of all together.

    Attributes:
        sent: Records on the raw topic.
        read: Records of these that have come out.
        written: Records on cdr.final.
        dead_lettered: Records on cdr.dlq.
    """

    sent: int = 0
    read: int = 0
    written: int = 0
    dead_lettered: int = 0

    @property
    def lag(self) -> int:
        """Number of records that have not come out yet."""
        return self.sent - self.read

    def __add__(self, other: "CountryProgress") -> "CountryProgress":
        """Return the sum."""
        return CountryProgress(
            self.sent + other.sent,
            self.read + other.read,
            self.written + other.written,
            self.dead_lettered + other.dead_lettered,
        )


class _Rates:
    """Records read per second, over the last few seconds."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, Mapping[str, CountryProgress]]] = deque()

    def of(self, progress: Mapping[str, CountryProgress]) -> dict[str, float]:
        now = time.monotonic()
        self._past.append((now, progress))
        while len(self._past) > 2 and self._past[0][0] < now - _RATE_WINDOW_S:
            self._past.popleft()
        since, before = self._past[0]
        seconds = now - since
        return {name: (at.read - before[name].read) / seconds if seconds else 0.0 for name, at in progress.items()}


class View(Protocol):
    """Shows what is going on, on standard error; standard output is for the summary."""

    def say(self, line: str) -> None:
        """Print a line that stays on the screen."""

    def update(self, step: str, progress: Mapping[str, CountryProgress]) -> None:
        """Show the current step and each country's progress; call it often."""

    def close(self) -> None:
        """Clear the table to make room for the summary. `say` still works."""


class _LineView:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = self._said = time.monotonic()
        self._rates = _Rates()

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def update(self, step: str, progress: Mapping[str, CountryProgress]) -> None:
        rate = sum(self._rates.of(progress).values())
        if time.monotonic() - self._said < _LINE_INTERVAL_S:
            return
        self._said = time.monotonic()
        total = sum(progress.values(), CountryProgress())
        self.say(
            f"{self._said - self._started:4.0f} s  {step}: {total.sent:,} sent, {total.read:,} read ({rate:,.0f}/s),"
            f" {total.written:,} written, {total.dead_lettered:,} dead-lettered, lag {total.lag:,}"
        )

    def close(self) -> None:
        pass


class _LiveView:
    def __init__(self, live: Live) -> None:
        self._live = live
        self._started = time.monotonic()
        self._rates = _Rates()

    def say(self, line: str) -> None:
        self._live.console.print(line, highlight=False, soft_wrap=True)

    def update(self, step: str, progress: Mapping[str, CountryProgress]) -> None:
        rates = self._rates.of(progress)
        table = Table(title=f"{step}  ({time.monotonic() - self._started:.0f} s)", title_justify="left")
        table.add_column("country")
        for name in ("sent", "read", "written", "dead letters", "lag", "read/s"):
            table.add_column(name, justify="right", min_width=9)
        for name, at in progress.items():
            table.add_row(name, *_cells(at, rates[name]))
        table.add_section()
        table.add_row("all", *_cells(sum(progress.values(), CountryProgress()), sum(rates.values())))
        self._live.update(table)

    def close(self) -> None:
        self._live.stop()


def _cells(at: CountryProgress, rate: float) -> list[str]:
    return [f"{number:,.0f}" for number in (at.sent, at.read, at.written, at.dead_lettered, at.lag, rate)]


@contextmanager
def open_view(*, is_live: bool) -> Iterator[View]:
    """Yield the view: a live table, or lines."""
    console = console_of(markup=True, stderr=True)
    if not is_live:
        yield _LineView(console)
        return
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        yield _LiveView(live)


_SAMPLE_FIELDS = (
    "imsi", "msisdn", "event_type", "event_time", "rat", "geo_place", "home_operator", "roaming", "bytes_up",
    "bytes_down", "duration_s", "fraud_score",
)  # fmt: skip
_MASKED_FIELDS = {"imsi", "msisdn"}


def print_summary(summary: Mapping[str, Any], samples: Mapping[str, Mapping[str, Any]]) -> None:
    """Print for people what the demo did and found.

    Args:
        summary: Summary as `orion-beam demo --json` prints it.
        samples: One final CDR of each country with unmasked numbers, which are masked here.
    """
    # A file or pipe has no width, and the default of 80 columns would cut the tables.
    console = console_of(markup=True, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    console.print(_outcomes(summary["countries"]))
    console.print(_codes(summary["countries"]))
    console.print(_samples(samples))
    console.print(
        f"{summary['records']:,} records, {summary['records_per_second']:,} a second while the job was reading;"
        f" {summary['seconds']:.0f} s from start to end",
        highlight=False,
    )
    if summary["balanced"]:
        console.print(
            f"[green]Conservation holds[/]: every source offset came out {summary['guarantee']}:"
            f" {summary['final']:,} on cdr.final + {summary['dead_letters']:,} on cdr.dlq = {summary['records']:,}"
            + (f", and {summary['duplicates']:,} again" if summary["duplicates"] else ""),
            highlight=False,
        )
    else:
        console.print("[red]Conservation is broken[/]:", highlight=False)
        for problem in summary["problems"]:
            console.print(f"  {problem}", highlight=False, markup=False)


def _outcomes(countries: Mapping[str, Any]) -> Table:
    table = Table("country", title="What came out", title_justify="left")
    for name in ("records", "final", "dead letters", "made faulty"):
        table.add_column(name, justify="right")
    for country, counts in countries.items():
        numbers = (counts["records"], counts["final"], counts["dead_letters"], counts["faulty"])
        table.add_row(country, *(f"{number:,}" for number in numbers))
    return table


def _codes(countries: Mapping[str, Any]) -> Table:
    table = Table("code", "meaning", title="Dead letters by first code", title_justify="left")
    for country in countries:
        table.add_column(country, justify="right")
    for code in Code:
        numbers = [counts["codes"].get(code.value, 0) for counts in countries.values()]
        if any(numbers):
            table.add_row(code.value, code.meaning, *(f"{number:,}" for number in numbers))
    return table


def _samples(samples: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("", *sorted(samples), title="A final CDR of each country, numbers masked", title_justify="left")
    for name in _SAMPLE_FIELDS:
        table.add_row(name, *(_text(name, samples[country][name]) for country in sorted(samples)))
    return table


def _text(name: str, value: Any) -> str:
    if name in _MASKED_FIELDS:
        return mask(value)
    if name == "event_time":
        return f"{value:%Y-%m-%d %H:%MZ}"
    return "" if value is None else str(value)


def further_steps(bootstrap_servers: str | None) -> Sequence[str]:
    """Return lines that say how to continue.

    Args:
        bootstrap_servers: Brokers of the demo's Kafka. None: it is not running any more.
    """
    if bootstrap_servers is not None:
        letters = own_topics().dead_letters.name
        return (
            f"Kafka stays up at {bootstrap_servers}, until Ctrl-C. Look at it from another terminal, for instance:",
            f"  why records were rejected: kcat -C -e -b {bootstrap_servers} -t {letters} -f '%h\\n'",
            f"  process new records:       orion-beam run --bootstrap-servers {bootstrap_servers}",
            f"  send some:                 orion-beam generate --count 10000 --bootstrap-servers {bootstrap_servers}",
        )
    return (
        "Look further:",
        "  orion-beam demo --keep        the same, and its Kafka stays up to look at",
        "  orion-beam schema show cdr    what a CDR on cdr.final holds",
        "  orion-beam local up           a Kafka of your own, for `generate` and `run`",
    )
