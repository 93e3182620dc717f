"""YAML files with the line of each value, so that a message can say where a mistake is.

Values are those of YAML 1.2's core schema: `NO` is a text and not false, `0123` is a text and not an octal number, and
a date is a text. A key is always a text. Tags that make objects are refused.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from orion_beam.errors import UserError
from orion_beam.text_files.text_file import KeyPath, TextFile, shown_path, text_in, why_unreadable

__all__ = ["read_yaml"]


class _Loader(yaml.SafeLoader):
    """Loader of plain data."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"~|null|", ["~", "n", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][-+]?[0-9]+)?)", "-+0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


_MOST_VALUES = 100_000
"""Most values of a file. Aliases of aliases are a few lines of text and any number of values."""

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""Characters that no path, and no line on a screen, can hold: NUL, and halves of surrogate pairs."""

_IN_NO_TEXT = "a character that no text can hold"

_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


def read_yaml(path: Path) -> TextFile:
    """Read a YAML file.

    Raises:
        UserError: The file cannot be read, is not YAML, holds a key twice, or asks for an object. The message names
            file and line.
    """
    lines: dict[KeyPath, int] = {}
    try:
        loader = _Loader(text_in(path))
        node = loader.get_single_node()
        return TextFile(path, None if node is None else _plain(loader, node, (), lines), lines)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise UserError(f"{shown_path(path)}{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{shown_path(path)}: {' '.join(str(error).split())}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{shown_path(path)}: {why_unreadable(error)}") from None
    except RecursionError:
        raise UserError(f"{shown_path(path)}: holds itself, or too many levels") from None


def _plain(loader: _Loader, node: yaml.Node, where: KeyPath, lines: dict[KeyPath, int]) -> Any:
    """Return the value of a node, and note the lines of what it holds."""
    if len(lines) > _MOST_VALUES:
        problem = f"more than {_MOST_VALUES:,} values: use fewer aliases"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
        raise yaml.MarkedYAMLError(problem=f"{node.tag}: only plain values are read", problem_mark=node.start_mark)
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated(node)
        loader.flatten_mapping(node)
        found = {}
        for key, value in node.value:
            lines[*where, key.value] = key.start_mark.line + 1
            found[key.value] = _plain(loader, value, (*where, key.value), lines)
        return found
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            lines[*where, place] = item.start_mark.line + 1
        return [_plain(loader, item, (*where, place), lines) for place, item in enumerate(node.value)]
    try:
        value = loader.construct_object(node, deep=True)
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
        problem = f"no {node.tag.rpartition(':')[2]} that can be read; write a text in quotes"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None
    if isinstance(value, str) and _NO_TEXT.search(value):
        raise yaml.MarkedYAMLError(problem=_IN_NO_TEXT, problem_mark=node.start_mark)
    return value


def _refuse_repeated(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key is one word", problem_mark=key.start_mark)
        if _NO_TEXT.search(key.value):
            raise yaml.MarkedYAMLError(problem=_IN_NO_TEXT, problem_mark=key.start_mark)
        if key.value in seen:
            raise yaml.MarkedYAMLError(problem=f"{key.value} is there twice", problem_mark=key.start_mark)
        seen.add(key.value)
