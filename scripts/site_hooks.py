"""What MkDocs does beside its settings (mkdocs.yml).

A folder in `nav` stands for all of its pages. The history of measurements, which lies beside the benchmarks, is a page,
too. A page that would load something from elsewhere is an error.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

_HISTORY = "benchmarks/history.md"
_FROM_ELSEWHERE = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")


def on_config(config: Any) -> None:
    """Replace each folder that `nav` names (`runbooks/`) by its pages, README.md first."""
    config.nav = _expanded(config.nav, Path(config.docs_dir))


def on_files(files: Any, config: Any) -> None:
    """Add the history of measurements as a page."""
    path = Path(config.docs_dir).parent / _HISTORY
    files.append(File.generated(config, _HISTORY, abs_src_path=str(path)))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Have links to and from the history lead to where it is in the site."""
    return markdown.replace(f"](../../{_HISTORY}", f"](../{_HISTORY}").replace("](../docs/", "](../")


def _expanded(entry: Any, docs: Path) -> Any:
    match entry:
        case list():
            return [_expanded(each, docs) for each in entry]
        case dict():
            return {title: _expanded(inner, docs) for title, inner in entry.items()}
        case str() if entry.endswith("/"):
            pages = sorted((docs / entry).glob("*.md"), key=lambda page: (page.name != "README.md", page.name))
            return [str(page.relative_to(docs)) for page in pages]
    return entry


def on_post_page(output: str, page: Any, **_: Any) -> None:
    """Refuse a page that would load something from elsewhere: the site works without a network."""
    if found := _FROM_ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} loads {found[1]} from elsewhere")
