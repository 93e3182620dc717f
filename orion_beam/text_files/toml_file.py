"""TOML files with the line of each key, so that a message can say where a mistake is."""

import re
import tomllib
from pathlib import Path
from typing import Any

from orion_beam.errors import UserError
from orion_beam.text_files.text_file import KeyPath, TextFile, shown_path, text_in, why_unreadable

__all__ = ["parse_toml", "read_toml", "toml_files", "toml_lines"]

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?")
_KEY = re.compile(r"""^\s*("[^"]*"|'[^']*'|[\w.-]+)\s*=""")


def read_toml(path: Path) -> TextFile:
    """Read a TOML file.

    Raises:
        UserError: The file cannot be read, or is not TOML. The message names file and line.
    """
    try:
        text, data = parse_toml(path)
        return TextFile(path, data, toml_lines(text))
    except (OSError, ValueError) as error:
        raise UserError(f"{shown_path(path)}: {why_unreadable(error)}") from None


def toml_files(directory: Path) -> list[Path]:
    """Return the TOML files of a directory, in order. Hidden ones, such as an editor's locks, are none of them."""
    return sorted(path for path in directory.glob("*.toml") if not path.name.startswith("."))


def parse_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the text of a TOML file, without a byte order mark, and its content.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not TOML in UTF-8.
    """
    text = text_in(path, "utf-8-sig")
    try:
        return text, tomllib.loads(text)
    except RecursionError:
        raise ValueError("too many levels") from None
    except ValueError as error:
        # Python's own error advises to change a setting of the interpreter.
        if isinstance(error, tomllib.TOMLDecodeError):
            raise
        raise ValueError("a number has too many digits") from None


def toml_lines(text: str) -> dict[KeyPath, int]:
    """Return the line of each table and key of a TOML file, from 1.

    It reads line by line: a text of several lines that looks like a key is taken for one.
    """
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.splitlines(), 1):
        if found := _TABLE.match(line):
            table = _keys(found[2])
            if found[1] == "[[":
                table = (*table, sum(1 for each in lines if each[:-1] == table and isinstance(each[-1], int)))
            lines[table] = number
        elif found := _KEY.match(line):
            lines[*table, *_keys(found[1])] = number
    return lines


def _keys(text: str) -> KeyPath:
    return tuple(part.strip().strip("\"'") for part in text.split("."))
