"""Patches: changes of a record's payload before it is sent back, by a user's function or by setting a field."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from orion_beam.countries import all_profiles
from orion_beam.dlq.judge import decoded_texts
from orion_beam.errors import UserError
from orion_beam.schemas.cdr import DecodedFields
from orion_beam.transforms.decoders.layouts import NoSuchFieldError
from orion_beam.transforms.decoders.registry import formats_known_to

PATCH_FUNCTION = "patch"


@dataclass(frozen=True)
class Record:
    """Argument of a patch: the original record, and why it was rejected.

    Attributes:
        key: Original key, which a patch cannot change.
        value: Original payload.
        headers: Headers of the source.
        country: ISO 3166-1 alpha-2 code.
        stage: Stage that rejected the record.
        codes: Codes of the rules that the record breaks.
        fields: Field of each code.
        texts: Decoded payload, by field of `cdr.DecodedFields`; empty if no format reads the payload.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    country: str
    stage: str
    codes: tuple[str, ...]
    fields: tuple[str, ...]
    texts: Mapping[str, str | None]

    def with_fields(self, **texts: str) -> bytes:
        """Return the payload with new texts in fields of `cdr.DecodedFields`, written in the record's own format.

        Raises:
            NoSuchFieldError: No format reads the payload, or the format has no such field.
        """
        formats = formats_known_to(all_profiles()[self.country]) if self.texts else {}
        layout = formats[self.texts["raw_format"] or ""].layout if self.texts else None
        if layout is None or self.value is None:
            raise NoSuchFieldError("no known format reads the payload")
        text = self.value.decode()
        for field, value in texts.items():
            text = layout.with_field(text, field, value)
        return text.encode()


Patch = Callable[[Record], bytes | None]
"""Function that returns the new payload of a record, or None to leave the record on the dead-letter topic."""


class Patched(NamedTuple):
    """Result of a patch for letters, in their order.

    Attributes:
        values: New payloads; None where the patch returned None or failed.
        failures: Type and place of the exception, by row; never its text, which may contain a value.
    """

    values: list[bytes | None]
    failures: Mapping[int, str]


def load_patch(path: Path) -> Patch:
    """Run a Python file, and return its function `patch`.

    Raises:
        UserError: The file cannot be read or run, or has no such function.
    """
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"--patch {path}: {error.strerror}") from None
    try:
        exec(compile(source, str(path), "exec"), namespace)
    except Exception as error:
        raise UserError(f"--patch {path} cannot be run: {_place_of(error, str(path))}") from None
    function = namespace.get(PATCH_FUNCTION)
    if not callable(function):
        raise UserError(f"--patch {path} has no function: write `def {PATCH_FUNCTION}(record): …`")
    return function  # type: ignore[no-any-return]


def setting(assignments: Mapping[str, str]) -> Patch:
    """Return a patch that sets fields of `cdr.DecodedFields` to new texts.

    Raises:
        UserError: `cdr.DecodedFields` has no such field.
    """
    known = [field for field in DecodedFields.model_fields if field != "raw_format"]
    for field in assignments:
        if field not in known:
            raise UserError(f"--set {field}: there is no such field; expected one of {', '.join(known)}")
    return lambda record: record.with_fields(**assignments)


def apply_patch(patch: Patch, letters: pa.RecordBatch, topic: str) -> Patched:
    """Patch the record of each row of `orion_beam.io.letter_headers.LETTER_SCHEMA`; a failure affects its row only."""
    values: list[bytes | None] = []
    failures = {}
    for row, record in enumerate(_records(letters, topic)):
        try:
            value = patch(record)
            if value is not None and not isinstance(value, bytes):
                raise TypeError
        except Exception as error:
            failures[row] = _place_of(error, getattr(getattr(patch, "__code__", None), "co_filename", ""))
            value = None
        values.append(value)
    return Patched(values, failures)


def _records(letters: pa.RecordBatch, topic: str) -> list[Record]:
    return [
        Record(
            key=letter["key"],
            value=letter["value"],
            headers=tuple((header["key"], header["value"]) for header in letter["headers"]),
            country=letter["country"],
            stage=letter["stage"],
            codes=tuple(letter["codes"]),
            fields=tuple(letter["fields"]),
            texts=texts or {},
        )
        for letter, texts in zip(letters.to_pylist(), decoded_texts(letters, topic), strict=True)
    ]


def _place_of(error: BaseException, path: str) -> str:
    """Return the type of an exception, and the line of the patch that raised it."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError in line {error.lineno}"
    if isinstance(error, NoSuchFieldError):
        return f"{error}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return type(error).__name__ + (f" in line {lines[-1]}" if lines else "")
