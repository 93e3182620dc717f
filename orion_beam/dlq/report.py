"""Statistics of dead letters as one self-contained HTML page: no script, no font, no network."""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from string import Template

from orion_beam.dlq.charts import colour, stacked_bars, stacked_hours
from orion_beam.dlq.statistics import LetterStatistics
from orion_beam.schemas import VERSION
from orion_beam.schemas.codes import meaning_of

_PAGE = Path(__file__).with_name("report.html")
_MOST_RULES = 40


def html_report(statistics: LetterStatistics, topic: str, made_at: datetime, wanted: str) -> str:
    """Return the page.

    Args:
        statistics: Counts to show; they contain no subscriber's number, so neither does the page.
        topic: Topic of the dead letters.
        made_at: Time of the report, as the page shows it.
        wanted: Filter as text for people; empty without a filter.
    """
    hours = statistics.hours
    between = f"failed between {hours[0]:%d %B %Y %H:%M} and {hours[-1]:%d %B %Y %H:59} UTC" if hours else "none failed"
    body = (
        _sections(statistics, hours) if statistics.letters else [_card("Nothing here", "No dead letter matches.", "")]
    )
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(
        title=f"Dead letters on {escape(topic)}",
        topic=escape(topic),
        lead=f"{between[0].upper()}{between[1:]}{f', {escape(wanted)}' if wanted else ''}",
        body="\n".join([_tiles(statistics), *body]),
        footer=f"ORION Beam {VERSION}, made {made_at:%d %B %Y %H:%M} UTC. Counts only, no records.",
    )


def _sections(statistics: LetterStatistics, hours: Sequence[datetime]) -> list[str]:
    countries = [country for country, _ in statistics.by("country").most_common()]
    codes = [code for code, _ in statistics.by("code").most_common()]
    stages = [stage for stage, _ in statistics.by("stage").most_common()]
    fields: dict[tuple[str, str], int] = {}
    for rule, count in statistics.rules.items():
        fields[rule.field, rule.country] = fields.get((rule.field, rule.country), 0) + count
    names = {field for field, _ in fields}
    by_size = sorted(names, key=lambda field: (-sum(fields.get((field, each), 0) for each in countries), field))
    meanings = {code: meaning_of(code) for code in codes}
    over_time = stacked_hours(statistics.by("hour", "country"), hours, countries)
    pair = [
        _card("By code", "The first rule that a letter breaks.",
              stacked_bars(statistics.by("code", "country"), codes, countries, meanings)),
        _card("By field", "Every broken rule counts: a letter that breaks two counts twice.",
              stacked_bars(fields, by_size, countries, {})),
    ]  # fmt: skip
    second_pair = [
        _card("Code and country", "Where the trouble is: the stronger the colour, the more letters.",
              _heat_map(statistics, countries, codes)),
        _card("By stage", "The stage that refused the record.",
              stacked_bars(statistics.by("stage", "country"), stages, countries, {}))
        + _card("By attempt", "From the second attempt on, the record is a redriven one.", _attempts(statistics)),
    ]  # fmt: skip
    return [
        _card("Over time", "When letters failed, by country. Point at a column for its figures.",
              over_time, _legend(countries)),
        f'<div class="pair">{"".join(pair)}</div>',
        f'<div class="pair">{second_pair[0]}<div>{second_pair[1]}</div></div>',
        _card("Broken rules", "All broken rules, the most frequent first.", _rules(statistics)),
    ]  # fmt: skip


def _tiles(statistics: LetterStatistics) -> str:
    again = sum(count for attempt, count in statistics.attempts.items() if attempt > 1)
    (top, _), *_ = [*statistics.by("code").most_common(1), ("none", 0)]
    (country, _), *_ = [*statistics.by("country").most_common(1), ("none", 0)]
    tiles = [
        (f"{statistics.letters:,}", f"dead letters, {statistics.letters - statistics.redriven:,} open", ""),
        (top, "most frequent code", "word"),
        (country, f"most, of {len(statistics.by('country'))} countries", ""),
        (f"{again:,}", "failed again after a redrive", ""),
        (f"{statistics.foreign:,}", "foreign messages", ""),
    ]
    cards = [
        f'<div class="card tile" style="--letters: {len(value)}"><b class="{kind}">{escape(value)}</b>'
        f"<span>{escape(name)}</span></div>"
        for value, name, kind in tiles
    ]
    return f'<div class="tiles">{"".join(cards)}</div>'


def _card(title: str, hint: str, content: str, legend: str = "") -> str:
    return (
        f'<section class="card">{legend}<h2>{escape(title)}</h2><p class="hint">{escape(hint)}</p>{content}</section>'
    )


def _legend(series: Sequence[str]) -> str:
    items = [f'<span><i class="{colour(index)}"></i>{escape(name)}</span>' for index, name in enumerate(series)]
    return f'<div class="legend">{"".join(items)}</div>'


def _heat_map(statistics: LetterStatistics, countries: Sequence[str], codes: Sequence[str]) -> str:
    counts = statistics.by("country", "code")
    most = max(counts.values())
    head = "".join(f'<th class="heat">{escape(country)}</th>' for country in countries)
    rows = []
    for code in codes:
        cells = []
        for country in countries:
            count = counts.get((country, code), 0)
            # The square root keeps small counts visible beside large ones.
            strength = 0.08 + 0.72 * (count / most) ** 0.5
            style = f' style="background: rgba(var(--heat), {strength:.2f})"' if count else ""
            cells.append(f'<td class="heat{"" if count else " none"}"{style}>{f"{count:,}" if count else "·"}</td>')
        rows.append(f"<tr><td>{escape(code)}</td>{''.join(cells)}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _attempts(statistics: LetterStatistics) -> str:
    counts = {(f"attempt {attempt}", ""): count for attempt, count in sorted(statistics.attempts.items())}
    return stacked_bars(counts, [row for row, _ in counts], [""], {})


def _rules(statistics: LetterStatistics) -> str:
    rows = [
        f"<tr><td>{escape(rule.country)}</td><td><code>{escape(rule.field)}</code></td>"
        f"<td><code>{escape(rule.code)}</code></td><td>{escape(meaning_of(rule.code))}</td>"
        f'<td class="number">{count:,}</td></tr>'
        for rule, count in statistics.rules.most_common(_MOST_RULES)
    ]
    head = '<tr><th>country</th><th>field</th><th>code</th><th>meaning</th><th class="number">letters</th></tr>'
    return f"<table>{head}{''.join(rows)}</table>"
