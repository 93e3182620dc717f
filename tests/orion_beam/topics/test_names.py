"""No module has a topic's name of its own: a name that is written in code lacks the environment's prefix."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.topics import CATALOGUE

ROOT = Path(__file__).parents[3]
NAMES = [re.escape(topic.name) for topic in CATALOGUE.topics.named]
NAME = re.compile(rf"(?:{'|'.join(NAMES)}|cdr\.raw\.)")
OF_FILES = {"orion_beam/io/files.py"}
"""Directories of Parquet and Avro files have the names of the shipped topics, in every environment."""
TOLD = ("help", "epilog", "description")
OF_TESTS = {"orion_beam/testing.py"}


def texts_of(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the texts that code may use, so neither docstrings nor help."""
    told = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        or (isinstance(node, ast.keyword) and node.arg in ("help", "epilog", "description"))
        for inner in ast.walk(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node


def test_names_come_from_the_catalogue_and_the_profiles() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{text.lineno}"
        for folder in ("orion_beam", "transforms", "runners", "schemas")
        for path in sorted((ROOT / folder).glob("**/*.py"))
        if not path.is_symlink() and str(path.relative_to(ROOT)) not in OF_FILES | OF_TESTS
        for text in texts_of(ast.parse(path.read_text(encoding="utf-8")))
        if NAME.fullmatch(str(text.value))
    ]
    assert found == []
