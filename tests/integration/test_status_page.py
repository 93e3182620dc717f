"""The monitor's status page as people see it: in headless Chromium, light and dark, without a network."""

import json
import re
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from orion_beam.monitoring.monitor import Snapshot
from orion_beam.monitoring.server import monitor_pages, serving
from tests.debian import require_program
from tests.orion_beam.monitoring.snapshots import AT_S, monitor, snapshot

pytestmark = pytest.mark.integration

PROBE = """<script>
setInterval(() => {
  const cards = [...document.querySelectorAll("section")];
  if (!cards.length) return;
  document.title = JSON.stringify({
    state: document.getElementById("state").textContent,
    cards: cards.map(card => ({
      country: card.dataset.country,
      text: card.innerText,
      curves: [...card.querySelectorAll(".curve")].map(curve => curve.getAttribute("d")),
    })),
    background: getComputedStyle(document.body).backgroundColor,
    overflow: document.documentElement.scrollWidth - innerWidth,
  });
}, 50);
</script>"""


def seen(tmp_path: Path, *history: Snapshot, dark: bool = False, width: int = 1240) -> Any:
    """Return what the page shows of a monitor that has seen these."""
    chromium = require_program("chromium", package="chromium")
    pages = monitor_pages(monitor(*history))
    kind, page = pages["/"]("")
    pages["/"] = lambda _: (kind, page.replace(b"</body>", PROBE.encode() + b"</body>"))
    with serving("127.0.0.1:0", pages) as url:
        done = subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--virtual-time-budget=3000",
                f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--window-size={width},1000",
                f"--user-data-dir={tmp_path / 'chromium'}", url + "/",
            ],
            capture_output=True, text=True, timeout=600, check=True,
        )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None
    return json.loads(unescape(title[1]))


@pytest.mark.parametrize(("dark", "width"), [(False, 1240), (True, 500)])
def test_countries_have_their_numbers_and_charts(tmp_path: Path, dark: bool, width: int) -> None:
    history = [snapshot(AT_S + 5 * n) if n != 5 else Snapshot(at_s=AT_S + 5 * n) for n in range(10)]
    page = seen(tmp_path, *history, dark=dark, width=width)
    assert page["state"] == "Kafka answers"
    france, tunisia = page["cards"]
    assert (france["country"], tunisia["country"]) == ("FR", "TN")
    assert "60 s" in france["text"]
    assert "malformed_payload" in france["text"]
    # Two curves of rates, one of lag, one of rejects, each in two pieces: Kafka was down in between.
    assert len(france["curves"]) == 8
    assert not any("NaN" in curve for curve in france["curves"])
    red = int(re.findall(r"\d+", page["background"])[0])
    assert red < 40 if dark else red > 200
    assert page["overflow"] <= 0


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"jobs": 0}, "no job reads it"),
        ({"jobs": 2}, "2 jobs read it"),
        ({"unread_partitions": 4}, "4 partitions are not read"),
    ],
)
def test_a_country_is_not_green_without_one_job_that_reads_all_of_it(
    tmp_path: Path, state: dict[str, int], words: str
) -> None:
    now = snapshot()
    bad = replace(now, countries={"TN": replace(now.countries["TN"], **state)})
    (before, after) = (seen(tmp_path, one)["cards"][-1]["text"] for one in (now, bad))
    assert "keeps up" in before
    assert "keeps up" not in after
    assert words in after


def test_an_outage_is_said(tmp_path: Path) -> None:
    page = seen(tmp_path, snapshot(), Snapshot(at_s=AT_S + 5))
    assert page["state"] == "Kafka does not answer"
    assert all("unknown" in card["text"] for card in page["cards"])
