"""View of `orion-beam top`: the monitor's last look as a table."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orion_beam.monitoring.monitor import LATE_S, Snapshot
from orion_beam.monitoring.progress import CountryStatus

_BARS = " ▁▂▃▄▅▆▇█"
_SPARK_POINTS = 16
_WIDTHS = {
    "country": 11,
    "arriving/s": 10,
    "processed/s": 11,
    "processed": _SPARK_POINTS,
    "lag": 6,
    "records": 9,
    "age": _SPARK_POINTS,
    "checkpoint": 12,
    "rejects/s": 9,
    "by code": None,
}
"""Least widths of the columns; the codes get the rest of the line."""
_CODES_SHOWN = 3
PRESSED = {
    "source": "the read is slow: records wait, and what follows takes all that it gets",
    "python": "the stages hold back the read",
    "sink": "the brokers hold back the workers, and they the read",
    "workers": "the workers hold back the read; give --workers to see whether stages or brokers do",
}
"""What is said of each of `monitor.PLACES`."""
_STANDSTILL_S = 120
"""Limit of the alert, at which a number changes colour; in seconds."""


def top_view(history: Sequence[Snapshot], countries: Mapping[str, str]) -> Group:
    """Return the view of the last look; small bars show the looks before it.

    Args:
        history: The looks, oldest first; at least one.
        countries: Names of the countries, by code.
    """
    latest = history[-1]
    return Group(_head(latest), _countries(history, countries), *_jobs(latest))


def _head(latest: Snapshot) -> Text:
    if latest.reading is None:
        return Text("Kafka does not answer", style="bold red")
    reading = latest.reading
    parts = [f"{reading.brokers} broker{'s' if reading.brokers > 1 else ''}"]
    if reading.under_replicated:
        parts.append(f"{reading.under_replicated} partitions lack a replica")
    parts += [f"{path} {use.used_ratio:.0%} full" for path, use in latest.disks.items()]
    head = Text("Kafka answers: ", style="green").append(", ".join(parts), style="default")
    for place in dict.fromkeys(latest.pressed.values()):
        held = ", ".join(code for code, at in latest.pressed.items() if at == place)
        head.append(f"\n{held}: {PRESSED[place]}", style="yellow")
    return head


def _countries(history: Sequence[Snapshot], countries: Mapping[str, str]) -> Table:
    table = Table(expand=True, box=None, pad_edge=False, header_style="dim")
    for name, width in _WIDTHS.items():
        is_text = name in {"country", "processed", "age", "by code"}
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True, min_width=width)
    for code, name in countries.items():
        states = [snapshot.countries.get(code) for snapshot in history[-_SPARK_POINTS:]]
        table.add_row(Text(f"{code} ").append(name, style="dim"), *_cells(history[-1], code, states))
    return table


def _cells(latest: Snapshot, code: str, states: Sequence[CountryStatus | None]) -> list[Text | str]:
    now = states[-1]
    if now is None:
        return [Text("no topic" if latest.is_up else "unknown", style="dim")]
    codes: Counter[str] = Counter()
    for (country, why), rate in latest.reject_rates.items():
        if country == code and rate:
            codes[why] += round(rate, 2)  # type: ignore[assignment]  # rates, largest first
    is_stuck, is_late = now.standstill_s > _STANDSTILL_S, now.lag_s > LATE_S
    lag = Text(_duration(now.lag_s), style="bold red" if is_stuck else "yellow" if is_late else "")
    trouble = {
        "no job": now.jobs == 0,
        f"{now.jobs} jobs": (now.jobs or 0) > 1,
        f"{now.unread_partitions} unread": now.unread_partitions,
        f"stuck {_duration(now.standstill_s)}": is_stuck,
    }
    wrong = [Text(words, style="bold red") for words, holds in trouble.items() if holds]
    commit = "none yet" if now.commit_age_s is None else f"{_duration(now.commit_age_s)} ago"
    return [
        f"{now.ingestion_rate:,.0f}",
        f"{now.processing_rate:,.0f}",
        Text(_spark([None if at is None else at.processing_rate for at in states]), style="blue"),
        lag,
        f"{now.lag:,}",
        Text(_spark([None if at is None else at.lag_s for at in states]), style="yellow"),
        wrong[0] if wrong else commit,
        f"{sum(codes.values()):,.1f}",
        Text(", ".join(f"{why} {rate:,.1f}" for why, rate in codes.most_common(_CODES_SHOWN)), style="red"),
    ]


def _jobs(latest: Snapshot) -> list[Text]:
    lines = []
    for url, jobs in latest.jobs.items():
        if jobs is None:
            lines.append(Text(f"{url} does not answer", style="bold red"))
        for job in jobs or ():
            took = "" if job.checkpoint_s is None else f", the last took {job.checkpoint_s:.1f} s"
            waiting = f", {job.tasks_waiting:,} tasks do not run" if job.tasks_waiting else ""
            line = f"{job.name}: {job.state.lower()}{waiting}, {job.completed:,} checkpoints{took}"
            line += f", {job.failed:,} failed, {job.restarts:,} restarts"
            if job.busy is not None:
                line += f", workers busy {job.busy:.0%}"
            if job.held:
                line += ", reads held back " + ", ".join(f"{topic} {held:.0%}" for topic, held in job.held.items())
            lines.append(Text(line, style="" if job.runs else "yellow"))
    return lines


def _spark(values: Sequence[float | None]) -> str:
    highest = max((value for value in values if value is not None), default=0.0)
    return "".join(
        "·" if value is None else _BARS[round(value / highest * (len(_BARS) - 1)) if highest else 0] for value in values
    )


def _duration(seconds: float) -> str:
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
