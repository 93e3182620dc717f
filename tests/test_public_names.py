"""What a user's program may import: the names in `__all__` of the modules that the page of the Python API lists."""

import ast
import re
from importlib import import_module
from pathlib import Path

import griffe
import pytest

from tests.test_docs import PAGES, ROOT, snippets_of

PUBLIC_MODULES = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference" / "api.md").read_text("utf-8"), re.MULTILINE)

every_module = pytest.mark.parametrize("name", PUBLIC_MODULES)


@pytest.fixture(scope="module")
def sources() -> griffe.ModulesCollection:
    """Read the sources as the API page does."""
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    loader.load("orion_beam")
    return loader.modules_collection


@every_module
def test_a_public_module_lists_its_names_in_order(name: str) -> None:
    names = import_module(name).__all__
    assert names
    assert names == sorted(set(names))


@every_module
def test_import_star_gives_what_is_listed_and_nothing_else(name: str) -> None:
    found: dict[str, object] = {}
    exec(f"from {name} import *", found)
    del found["__builtins__"]
    assert sorted(found) == import_module(name).__all__


@every_module
def test_every_public_name_has_a_docstring(sources: griffe.ModulesCollection, name: str) -> None:
    members = sources[name].members
    without = [each for each in import_module(name).__all__ if not members[each].has_docstring]
    assert without == []


@every_module
def test_what_is_documented_is_listed(sources: griffe.ModulesCollection, name: str) -> None:
    documented = {
        each.name
        for each in sources[name].members.values()
        if not each.is_alias and not each.is_module and not each.is_private and each.has_docstring
    }
    assert documented <= set(import_module(name).__all__)


@pytest.mark.parametrize("page", [page for page in PAGES if snippets_of(page, "python")], ids=lambda page: page.name)
def test_a_snippet_imports_public_names_only(page: Path) -> None:
    imported = {
        (node.module, alias.name)
        for snippet in snippets_of(page, "python")
        for node in ast.walk(ast.parse(snippet))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "orion_beam"
        for alias in node.names
    }
    public = {(module, name) for module in PUBLIC_MODULES for name in import_module(module).__all__}
    assert imported - public == set()
