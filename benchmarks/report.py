"""The report of `benchmarks.side_by_side`: medians and spreads of its figures, as a table, JSON and a chart."""

import io
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Run:
    """The figures of one contender in one round.

    CPU, and the warm rate, are those of the second half of the records. Rates and CPU count every record that came out.

    Attributes:
        contender: Name of the contender.
        round: Number of the round, from 1.
        records: Number of records of the throughput part.
        cdr_per_s: From the first record at the sink to the last.
        warm_cdr_per_s: The same of the second half.
        cpu_us: Microseconds of CPU a record, by kind of process: broker, jvm, python.
        whole_cpu_us: The same of the contender alone, from its start to its last record.
        memory_mib: Largest resident memory of the contender, by kind of process.
        start_s: From the start of the first process to the first record at the sink.
        latency_p50_ms: Median latency at the steady rate; None if it has none.
        latency_p99_ms: Latency below which 99 % of the records stay.
        problems: Differences of its output from what is expected.
    """

    contender: str
    round: int
    records: int
    cdr_per_s: float
    warm_cdr_per_s: float
    cpu_us: Mapping[str, float]
    whole_cpu_us: float
    memory_mib: Mapping[str, float]
    start_s: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    problems: Sequence[str]

    @property
    def job_cpu_us(self) -> float:
        """Microseconds of CPU a record without the broker."""
        return sum(cpu for kind, cpu in self.cpu_us.items() if kind != "broker")

    @property
    def job_memory_mib(self) -> float:
        """Memory of all processes of the contender."""
        return sum(self.memory_mib.values())


@dataclass(frozen=True)
class Machine:
    """Where and how it was measured.

    Attributes:
        system: Operating system.
        processor: Name of the processor.
        cores: Number of cores.
        memory_gib: Memory.
        date: Day of the measurement.
        commit: The code that was measured.
        load: Load average by round, when it started: processes that wanted a core.
    """

    system: str
    processor: str
    cores: int
    memory_gib: float
    date: str
    commit: str
    load: Sequence[float]

    @classmethod
    def this(cls, date: str, commit: str, load: Sequence[float]) -> "Machine":
        """Describe this machine."""
        names = [line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")]
        memory = psutil.virtual_memory().total / 2**30
        processor = names[0] if names else platform.machine()
        return cls(f"Linux {platform.release()}", processor, os.cpu_count() or 1, memory, date, commit, load)

    def __str__(self) -> str:
        """Return a line."""
        load = ", ".join(f"{each:.0f}" for each in self.load)
        return (
            f"{self.date}, {self.commit}, {self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB;"
            f" load average at the start of each round: {load}"
        )


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of a figure's rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Iterable[float]) -> "Spread":
        """Summarize figures, at least one."""
        ordered = sorted(figures)
        return cls(median(ordered), ordered[0], ordered[-1])

    def text(self, digits: int = 0) -> str:
        """Return the median and, in brackets, the range."""
        if self.least == self.most:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f}–{self.most:,.{digits}f})"


class Report:
    """Summary of all runs.

    Args:
        machine: Where it was measured.
        titles: Names for people of all contenders, in order.
        runs: The runs, of contenders in `titles`.
        missing: Contenders that could not run, with the reason.
    """

    def __init__(
        self, machine: Machine, titles: Mapping[str, str], runs: Sequence[Run], missing: Mapping[str, str]
    ) -> None:
        """Group the runs by contender."""
        self._machine, self._titles, self._missing = machine, titles, missing
        self._runs = {name: of_it for name in titles if (of_it := [run for run in runs if run.contender == name])}

    @property
    def problems(self) -> list[str]:
        """A line for each run whose output was not as expected."""
        return [
            f"{self._titles[name]}, round {run.round}: {problem}"
            for name, runs in self._runs.items()
            for run in runs
            for problem in run.problems
        ]

    def ratio(self, name: str) -> float | None:
        """Return the CPU of a contender, as a multiple of ORION's on embedded Flink."""
        if "orion" not in self._runs or name not in self._runs:
            return None
        return self._cpu(name).median / self._cpu("orion").median

    def table(self) -> str:
        """Return a table for a terminal, with the machine, and what could not be measured."""
        most = max(map(len, self._runs.values()), default=0)
        table = Table(title=f"Medians of {most} rounds (least–most)", caption=str(self._machine), box=None)
        table.add_column("contender", no_wrap=True)
        names = (
            "CDR/s",
            "µs of CPU",
            "ratio",
            "warm CDR/s",
            "jvm",
            "python",
            "broker",
            "MiB",
            "start s",
            "p50 ms",
            "p99 ms",
        )
        for column in names:
            table.add_column(column, justify="right", no_wrap=True)
        for name, runs in self._runs.items():
            ratio = self.ratio(name)
            table.add_row(
                self._titles[name],
                Spread.of(run.cdr_per_s for run in runs).text(),
                self._cpu(name).text(1),
                "" if ratio is None else f"{ratio:.1f}",
                # Without their ranges, which JSON has: the table would be too wide.
                f"{median(run.warm_cdr_per_s for run in runs):,.0f}",
                *(f"{median(run.cpu_us.get(kind, 0.0) for run in runs):,.1f}" for kind in ("jvm", "python", "broker")),
                f"{median(run.job_memory_mib for run in runs):,.0f}",
                f"{median(run.start_s for run in runs):,.1f}",
                *(self._latency(name, which) for which in ("latency_p50_ms", "latency_p99_ms")),
            )
        text = io.StringIO()
        console = Console(width=220, color_system=None, file=text)
        console.print(table)
        for name, reason in self._missing.items():
            console.print(f"{self._titles[name]} {self._absence(name)}: {reason}")
        for problem in self.problems:
            console.print(f"NOT EQUAL: {problem}")
        return text.getvalue()

    def as_json(self) -> str:
        """Return everything that was measured."""
        found: dict[str, Any] = {
            "machine": asdict(self._machine),
            "contenders": {
                name: {
                    "title": self._titles[name],
                    "job_cpu_us": asdict(self._cpu(name)),
                    "cdr_per_s": asdict(Spread.of(run.cdr_per_s for run in runs)),
                    "cpu_ratio_to_orion": self.ratio(name),
                    "runs": [asdict(run) for run in runs],
                }
                for name, runs in self._runs.items()
            },
            "missing": dict(self._missing),
        }
        return json.dumps(found, indent=2, ensure_ascii=False)

    def as_svg(self) -> str:
        """Return a chart: CPU a record of each contender's own processes, with the range of the rounds."""
        return _chart(
            "Microseconds of CPU a CDR, without the broker: median, and range of the rounds",
            [(self._titles[name], self._cpu(name)) for name in self._runs],
            [
                str(self._machine),
                *(f"{self._titles[name]} {self._absence(name)}: {reason}" for name, reason in self._missing.items()),
            ],
        )

    def write(self, directory: Path) -> None:
        """Write `bench.txt`, `bench.json` and `bench.svg`."""
        directory.mkdir(parents=True, exist_ok=True)
        for suffix, text in (("txt", self.table()), ("json", self.as_json()), ("svg", self.as_svg())):
            (directory / f"bench.{suffix}").write_text(text, encoding="utf-8")

    def _cpu(self, name: str) -> Spread:
        return Spread.of(run.job_cpu_us for run in self._runs[name])

    def _latency(self, name: str, which: str) -> str:
        figures = [figure for run in self._runs[name] if (figure := getattr(run, which)) is not None]
        return f"{median(figures):,.0f}" if figures else "–"

    def _absence(self, name: str) -> str:
        rounds = len(self._runs.get(name, ()))
        return f"has {rounds} round{'s' if rounds > 1 else ''} only" if rounds else "is missing"


_NAMES_WIDTH, _BARS_WIDTH, _FIGURES_WIDTH, _ROW_HEIGHT, _TOP = 230, 520, 150, 26, 40
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2933}.title{font-weight:600}.note{font-size:11px;fill:#52606d}"
    ".bar{fill:#3e7cb1}.range{stroke:#1f2933;stroke-width:1.5}"
)


def _chart(title: str, bars: Sequence[tuple[str, Spread]], notes: Sequence[str]) -> str:
    width = _NAMES_WIDTH + _BARS_WIDTH + _FIGURES_WIDTH
    height = _TOP + _ROW_HEIGHT * len(bars) + 18 * len(notes) + 12
    scale = _BARS_WIDTH / (max((spread.most for _, spread in bars), default=0) or 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text class="title" x="8" y="22">{escape(title)}</text>',
    ]
    for row, (name, spread) in enumerate(bars):
        top = _TOP + row * _ROW_HEIGHT
        middle = top + _ROW_HEIGHT / 2
        least, most = (_NAMES_WIDTH + figure * scale for figure in (spread.least, spread.most))
        parts += [
            f'<text x="{_NAMES_WIDTH - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="bar" x="{_NAMES_WIDTH}" y="{top + 5}" width="{spread.median * scale:.1f}" height="16"/>',
            f'<line class="range" x1="{least:.1f}" x2="{most:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>',
            f'<text x="{most + 8:.1f}" y="{middle + 4:.1f}">{escape(spread.text(1))}</text>',
        ]
    below = _TOP + _ROW_HEIGHT * len(bars) + 18
    parts += [
        f'<text class="note" x="8" y="{below + 18 * row}">{escape(note)}</text>' for row, note in enumerate(notes)
    ]
    return "\n".join([*parts, "</svg>", ""])


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
