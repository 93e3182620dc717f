"""Pages in headless Chromium, for tests of what people see. Without Chromium such a test is skipped."""

import json
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

from tests.debian import require_program

_LIGHT, _DARK = 1, 0


def seen_in_browser(page: Path, script: str, *, dark: bool = False, width: int = 1240) -> Any:
    """Open a page without a network, run a function in it, and return the function's result, converted through JSON.

    Args:
        page: HTML file.
        script: Body of a JavaScript function without arguments, which runs at the end of the page.
        dark: Whether the browser prefers dark colours.
        width: Width of the window in pixels.
    """
    chromium = require_program("chromium", package="chromium")
    probe = f"<script>document.title = JSON.stringify((() => {{{script}}})())</script>"
    probed = page.with_suffix(".probed.html")
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{probe}</body>"), encoding="utf-8")
    scheme = _DARK if dark else _LIGHT
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--blink-settings=preferredColorScheme={scheme}",
            f"--window-size={width},1000", f"--user-data-dir={page.parent / 'chromium'}", "--dump-dom",
            probed.as_uri(),
        ],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None
    return json.loads(unescape(title[1]))
