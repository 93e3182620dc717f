"""A folder answers one question: it says which, and is small. Modules have one name."""

import ast
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    ROOT / path
    for path in subprocess.check_output(["git", "ls-files", "*.py"], cwd=ROOT, text=True).split()
    if (ROOT / path).exists()
]
PRODUCT = [
    path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("orion_beam", "transforms", "schemas", "runners")
]
ROOMS = sorted({path.parent for path in PRODUCT})
MOST_MODULES = 12
ONE_FILE_EACH = {"orion_beam/cli": "a command"}

every_room = pytest.mark.parametrize("room", ROOMS, ids=[str(room.relative_to(ROOT)) for room in ROOMS])


@every_room
def test_a_room_is_small(room: Path) -> None:
    if str(room.relative_to(ROOT)) not in ONE_FILE_EACH:
        modules = [path for path in PRODUCT if path.parent == room and path.name != "__init__.py"]
        assert len(modules) <= MOST_MODULES


@every_room
def test_a_room_says_what_belongs_in_it(room: Path) -> None:
    assert ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))


def test_every_module_is_imported_by_its_one_name() -> None:
    """`import transforms` would find the folder as well, from the repository's root: as a second copy."""
    others = ("schemas", "transforms", "runners")
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
        if name.split(".")[0] in others
    ]
    assert found == []


COMMANDS = ("main", "app", "apply", "audit", "check", "down", "plan", "show", "status", "up", "verify")
NAMES_OF_A_KIND = dict.fromkeys(COMMANDS, "a command, and what it calls")


def test_a_public_name_means_one_thing() -> None:
    defined = defaultdict(set)
    for path in PRODUCT:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            names += [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            for name in names:
                if not name.startswith("_") and name not in NAMES_OF_A_KIND:
                    defined[name].add(str(path.relative_to(ROOT)))
    assert {name: places for name, places in defined.items() if len(places) > 1} == {}
