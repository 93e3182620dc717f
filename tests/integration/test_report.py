"""The report of dead letters in a browser."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orion_beam.dlq.report import html_report
from orion_beam.dlq.statistics import BrokenRule, LetterGroup, LetterStatistics
from orion_beam.schemas.codes import Code
from tests.browser import seen_in_browser

pytestmark = pytest.mark.integration

CODES = {"invalid_timestamp": "event_time", "unknown_rat": "rat", "malformed_payload": "value"}
LOOK = """
const charts = [...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect());
return {
  colours: [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color],
  bars: document.querySelectorAll('svg rect:not(.hit)').length,
  empty: charts.filter(box => box.width < 100 || box.height < 20).length,
  charts: charts.length,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  cut: [...document.querySelectorAll('svg text')].filter(text => {
    const own = text.getBoundingClientRect(), chart = text.closest('svg').getBoundingClientRect();
    return own.left < chart.left - 1 || own.right > chart.right + 1;
  }).map(text => text.textContent),
};
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    statistics = LetterStatistics(letters=3 * 4 * 30)
    for number in range(30):
        for country in ("FR", "TN", "MA", "SN"):
            for code, field in CODES.items():
                hour = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(hours=number)
                statistics.kinds[LetterGroup(country, "validate", code, hour)] += 1 + number
                statistics.rules[BrokenRule(country, code, field)] += 1 + number
    statistics.attempts.update({1: 300, 2: 60})
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html_report(statistics, "cdr.dlq", datetime(2026, 6, 2, tzinfo=UTC), ""), encoding="utf-8")
    return path


def brightness(colour: str) -> float:
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_charts_are_there_whole_and_readable(page: Path, dark: bool) -> None:
    seen = seen_in_browser(page, LOOK, dark=dark)
    assert (seen["charts"], seen["empty"], seen["cut"]) == (5, 0, [])
    assert seen["bars"] >= 30 * 4 + 2 * 3 * 4
    assert seen["overflow"] <= 0
    background, text = map(brightness, seen["colours"])
    assert (background < 64 and text > 192) if dark else (background > 192 and text < 64)


TILES = """
return [...document.querySelectorAll('.tile b')].map(word => {
  const lines = document.createRange();
  lines.selectNodeContents(word);
  const own = lines.getBoundingClientRect(), card = word.closest('.card').getBoundingClientRect();
  const tops = new Set([...lines.getClientRects()].map(box => box.top));
  return [word.textContent, tops.size, own.right <= card.right - 19];
});
"""


@pytest.mark.parametrize("width", [1240, 1000, 700, 500])
@pytest.mark.parametrize("code", [max(Code, key=lambda each: len(each.value)), Code.INVALID_TIMESTAMP])
def test_a_tile_holds_its_word_on_one_line(tmp_path: Path, width: int, code: Code) -> None:
    statistics = LetterStatistics(letters=1_234_567)
    statistics.kinds[LetterGroup("FR", "validate", code.value, datetime(2026, 6, 1, tzinfo=UTC))] = 1_234_567
    path = tmp_path / "report.html"
    path.write_text(html_report(statistics, "cdr.dlq", datetime(2026, 6, 2, tzinfo=UTC), ""), encoding="utf-8")
    tiles = seen_in_browser(path, TILES, width=width)
    assert code.value in [word for word, _, _ in tiles]
    assert [word for word, lines, is_within in tiles if lines != 1 or not is_within] == []


def test_it_fits_a_telephone(page: Path) -> None:
    assert seen_in_browser(page, LOOK, width=500)["overflow"] <= 0
