"""Charts as inline SVG, without scripts or network; the page's style sheet sets the colours."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape

WIDTH, HOUR_HEIGHT = 1120, 230
_LEFT, _BOTTOM, _TOP = 56, 26, 12
_MOST_COLUMNS = 96
_GRID_LINES = 4
_NAMES_WIDTH, _ROW_HEIGHT, _BARS_WIDTH = 188, 30, 540


def colour(index: int) -> str:
    """Return the CSS class of the n-th series, from 0; all series from the eighth on share one class."""
    return f"s{min(index, 7)}"


def stacked_hours(counts: Mapping[tuple[datetime, str], int], hours: Sequence[datetime], series: Sequence[str]) -> str:
    """Draw letters over time: a column per hour, or per several hours if there are many; series are stacked."""
    step = max(1, -(-len(hours) // _MOST_COLUMNS))
    columns = [hours[start : start + step] for start in range(0, len(hours), step)]
    values = [[sum(counts.get((hour, name), 0) for hour in column) for name in series] for column in columns]
    top = _nice_top(max((sum(column) for column in values), default=0))
    height, width = HOUR_HEIGHT - _TOP - _BOTTOM, (WIDTH - _LEFT) / max(1, len(columns))
    parts = []
    for line in range(_GRID_LINES + 1):
        y = _TOP + height * (1 - line / _GRID_LINES)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = f"{top * line / _GRID_LINES:,.0f}"
        parts.append(f'<text class="tick" x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    gap = min(3.0, width * 0.22)
    for place, (column, heights) in enumerate(zip(columns, values, strict=True)):
        x, y = _LEFT + place * width + gap / 2, _TOP + height
        # Only the hour is shown: after the last day of 9999 there is no date.
        until = (column[-1].hour + 1) % 24
        title = f"{column[0]:%d %b %H:%M} to {until:02}:00 UTC: {sum(heights):,}"
        title += "".join(f"\n{name} {value:,}" for name, value in zip(series, heights, strict=True) if value)
        bars = []
        for index, value in enumerate(heights):
            if value:
                tall = max(0.8, height * value / top)
                y -= tall
                shape = f'x="{x:.1f}" y="{y:.1f}" width="{max(1.0, width - gap):.1f}" height="{tall:.1f}"'
                bars.append(f'<rect class="{colour(index)}" {shape} rx="1"/>')
        hit = f'<rect class="hit" x="{x - gap / 2:.1f}" y="{_TOP}" width="{width:.1f}" height="{height}"/>'
        parts.append(f"<g class=column>{hit}{''.join(bars)}<title>{escape(title)}</title></g>")
    parts += _time_labels([column[0] for column in columns], width)
    return _svg(WIDTH, HOUR_HEIGHT, parts, "Dead letters by hour and country")


def _time_labels(starts: Sequence[datetime], width: float) -> list[str]:
    every = max(1, -(-len(starts) // 8))
    labels = []
    for place in range(0, len(starts), every):
        x = _LEFT + place * width + width / 2
        anchor = "start" if place == 0 else "middle"
        text = f"{starts[place]:%d %b %H:%M}"
        x = x - width / 2 if place == 0 else x
        labels.append(f'<text class="tick" x="{x:.1f}" y="{HOUR_HEIGHT - 6}" text-anchor="{anchor}">{text}</text>')
    return labels


def stacked_bars(
    counts: Mapping[tuple[str, str], int],
    rows: Sequence[str],
    series: Sequence[str],
    titles: Mapping[str, str],
) -> str:
    """Draw one horizontal bar per row, with its series side by side.

    Args:
        counts: Number of letters by row and series.
        rows: Names of the rows, from the top.
        series: Names of the series, in the order of their colours.
        titles: Additional text of a row's tooltip, by row.
    """
    totals = {row: sum(counts.get((row, name), 0) for name in series) for row in rows}
    most = max(totals.values(), default=0) or 1
    room = _BARS_WIDTH - _NAMES_WIDTH - 76
    parts = []
    for place, row in enumerate(rows):
        y, x = place * _ROW_HEIGHT + 6, float(_NAMES_WIDTH)
        parts.append(f'<text class="name" x="{_NAMES_WIDTH - 12}" y="{y + 14}" text-anchor="end">{escape(row)}</text>')
        bars = []
        for index, name in enumerate(series):
            if value := counts.get((row, name), 0):
                width = max(1.0, room * value / most)
                shape = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="18"'
                bars.append(f'<rect class="{colour(index)}" {shape} rx="2"/>')
                x += width
        title = f"{row}: {totals[row]:,}" + (f"\n{titles[row]}" if titles.get(row) else "")
        title += "".join(f"\n{name} {counts[row, name]:,}" for name in series if counts.get((row, name)))
        parts.append(f"<g class=column>{''.join(bars)}<title>{escape(title)}</title></g>")
        parts.append(f'<text class="value" x="{x + 8:.1f}" y="{y + 14}">{totals[row]:,}</text>')
    return _svg(_BARS_WIDTH, len(rows) * _ROW_HEIGHT + 6, parts, "Dead letters by row")


def _svg(width: int, height: int, parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _nice_top(value: float) -> float:
    """Return the least of 4, 8, 20, 40, 80, 200, … that is at least `value`, so that its quarters are whole numbers."""
    top = 4.0
    for factor in [2, 2.5, 2] * 12:
        if top >= value:
            break
        top *= factor
    return top
