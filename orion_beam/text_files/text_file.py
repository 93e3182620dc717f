"""TextFile: the content of a YAML or TOML file with the line of each key, checked against a model."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from orion_beam.errors import UserError

__all__ = ["KeyPath", "TextFile", "shown_path", "text_in", "why_unreadable"]

Model = TypeVar("Model", bound=BaseModel)

_LARGEST_BYTES = 16 << 20

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of a file to a value."""


@dataclass(frozen=True)
class TextFile:
    """Content of a YAML or TOML file.

    Attributes:
        path: The file.
        data: Mappings, lists, texts, numbers, booleans and None.
        lines: Line of each key and list item, from 1.
    """

    path: Path
    data: Any
    lines: Mapping[KeyPath, int]

    def place(self, where: KeyPath = ()) -> str:
        """Return `file:line` of a value; of the nearest value around it if the file does not have it."""
        while where and where not in self.lines:
            # The tables of a TOML array have lines, and the array has none.
            if within := [line for key, line in self.lines.items() if key[: len(where)] == where]:
                return f"{shown_path(self.path)}:{min(within)}"
            where = where[:-1]
        return f"{shown_path(self.path)}:{self.lines.get(where, 1)}"

    def _line(self, where: KeyPath) -> int:
        """Return the line of a value, or of the nearest value around it; 0 for the file as a whole."""
        return next((self.lines[where[:end]] for end in range(len(where), 0, -1) if where[:end] in self.lines), 0)

    def error(self, where: KeyPath, message: str) -> UserError:
        """Return the error of a value: `file:line: field: message`."""
        field = ".".join(map(str, where))
        return UserError(f"{self.place(where)}: {f'{field}: ' if field else ''}{message}")

    def checked(self, model: type[Model], data: Any = None) -> Model:
        """Return the content as a model.

        Args:
            model: The model.
            data: What to check instead of the content, such as the content over defaults; None for the content.

        Raises:
            UserError: A key is unknown, or a value breaks its rule. The message names file, line and field, and the
                nearest known key.
        """
        content = self.data if data is None else data
        try:
            checked = model.model_validate(content)
            # Pydantic takes true for 1.
            for where in _numbers_from_booleans(content, checked):
                raise self.error(where, "expected a number, not true or false")
            return checked
        except ValidationError as error:
            problems = [(self._known_part(each["loc"]), each) for each in error.errors(include_url=False)]
            # A misspelt key may be the one that is missing. A value of several types has an error for each of them.
            where, problem = min(
                problems,
                key=lambda each: (
                    each[1]["type"] != "extra_forbidden",
                    self._line(each[0]),
                    -len(each[0]),
                    each[1]["type"].endswith("_type"),
                ),
            )
            if problem["type"] == "extra_forbidden":
                message = f"there is no such key; {_hint(str(where[-1]), _keys_at(model, where[:-1]))}"
            elif problem["type"] == "missing":
                # A key that is there without a value is known already.
                missing = str(problem["loc"][-1])
                where, message = where if where[-1:] == (missing,) else (*where, missing), "is required"
            else:
                message = _in_words(problem["msg"])
            raise self.error(where, message) from None

    def _known_part(self, location: Sequence[str | int]) -> KeyPath:
        """Return the keys of an error's location. Pydantic adds the names of a union's types to it."""
        where: KeyPath = ()
        value: Any = self.data
        for part in location:
            if part in (value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()):
                where, value = (*where, part), value[part]
        return where


def _numbers_from_booleans(content: Any, checked: Any, where: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the places where a file says true or false, and its model has a number."""
    if isinstance(content, bool) and isinstance(checked, int | float) and not isinstance(checked, bool):
        yield where
    elif isinstance(content, dict):
        for part, value in content.items():
            yield from _numbers_from_booleans(value, _value_at(checked, part), (*where, part))
    elif isinstance(content, list) and isinstance(checked, list | tuple):
        for place, (value, made) in enumerate(zip(content, checked, strict=False)):
            yield from _numbers_from_booleans(value, made, (*where, place))


def _value_at(checked: Any, part: Any) -> Any:
    """Return what a checked value has for a key; None if it cannot be told."""
    if isinstance(checked, BaseModel):
        fields = {field.alias or name: name for name, field in type(checked).model_fields.items()}
        return getattr(checked, fields.get(part, part), None)
    return checked.get(part) if isinstance(checked, Mapping) else None


def text_in(path: Path, encoding: str = "utf-8") -> str:
    """Return the text of a file that somebody has written by hand. A device, such as /dev/zero, has no end.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no text in this encoding (UnicodeDecodeError), or too large to be written by hand.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"is larger than {_LARGEST_BYTES >> 20} MiB")
    return content.decode(encoding).replace("\r\n", "\n")


def why_unreadable(error: OSError | ValueError) -> str:
    """Return the reason of an error that `text_in` raised."""
    if isinstance(error, UnicodeDecodeError):
        return "is no UTF-8 text"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def shown_path(path: Path) -> str:
    """Return a path for people: relative if it is within the current directory."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _in_words(message: str) -> str:
    """Return pydantic's message in the words of YAML."""
    words = message.removeprefix("Value error, ").partition(", unable")[0].replace("Input should be", "expected")
    if "a valid dictionary" in words:
        return "expected keys and values"
    words = re.sub(r"<\w+\.\w+: ('\w*')>", r"\1", words)
    return words.replace("a valid tuple", "a list").replace("a valid", "a").replace("a integer", "an integer")


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def _keys_at(model: type[BaseModel], where: KeyPath) -> list[str]:
    """Return the keys that a model takes at a place."""
    kinds: list[Any] = [model]
    for part in where:
        kinds = [inner for kind in kinds for inner in _inner(kind, part)]
    return [field.alias or name for kind in kinds if _is_model(kind) for name, field in kind.model_fields.items()]


def _inner(kind: Any, part: str | int) -> list[Any]:
    """Return the types of what a type holds at a key or list position."""
    if _is_model(kind):
        fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        return _alternatives(fields[str(part)]) if part in fields else []
    arguments = [each for each in get_args(kind) if each is not Ellipsis]
    return _alternatives(arguments[-1]) if arguments else []


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) in (Union, UnionType):
        return [inner for each in get_args(kind) for inner in _alternatives(each)]
    return _alternatives(get_args(kind)[0]) if get_origin(kind) is Annotated else [kind]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
