"""Hooks of MkDocs for what its settings (mkdocs.yml) cannot say.

A folder in `nav` stands for all of its pages. The history of measurements, a file beside the benchmarks, becomes a
page. A page that loads a file from another site is an error. The page of the Python API leaves out what only Python or
Beam calls.
"""

import re
from pathlib import Path
from typing import Any

from griffe import Extension, Function
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

_HISTORY = "benchmarks/history.md"
_FROM_ELSEWHERE = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")


class NotForUsers(Extension):
    """Keeps special methods, and `expand` of a PTransform, from the page of the Python API."""

    def on_function(self, *, func: Function, **_: Any) -> None:
        """Take the docstring away: what has none is not shown."""
        if func.name == "expand" or (func.name.startswith("__") and func.name != "__init__"):
            func.docstring = None


def on_config(config: Any) -> None:
    """Replace each folder in `nav` (such as `runbooks/`) by its pages, README.md first."""
    config.nav = _expanded(config.nav, Path(config.docs_dir))


def on_files(files: Any, config: Any) -> None:
    """Add the history of measurements as a page."""
    path = Path(config.docs_dir).parent / _HISTORY
    files.append(File.generated(config, _HISTORY, abs_src_path=str(path)))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Rewrite links to and from the history of measurements, whose place in the site is not that in the repository.

    The site does not have the tests: of a link to one, its text stays.
    """
    markdown = re.sub(r"\[(`[^`\]]+`)\]\(\.\./\.\./tests/[^)]+\)", r"\1", markdown)
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
    """Refuse a page that loads a file from another site, since the pages must work without a network."""
    if found := _FROM_ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} loads {found[1]} from elsewhere")
