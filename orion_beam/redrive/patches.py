"""Patches: what is done to a record before it is sent back, by a function of yours or by setting a field."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from orion_beam.dlq.judge import decoded_texts
from orion_beam.errors import UserError
from orion_beam.schemas.cdr import DecodedFields
from orion_beam.transforms.decoders.layouts import NoSuchFieldError
from orion_beam.transforms.decoders.registry import all_formats

PATCH_FUNCTION = "patch"


@dataclass(frozen=True)
class Record:
    """What a patch is given: the original record, and why it was refused.

    Attributes:
        key: as it was sent; it stays.
        value: the payload as it was sent.
        headers: the source's own.
        country: ISO 3166-1 alpha-2.
        stage: that refused it.
        codes: the rules that it breaks,
        fields: and the field of each.
        texts: what the payload says, by the fields of `cdr.DecodedFields`; empty for what no format reads.
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
        """Return the payload in which fields say something else, written as the record's format writes them.

        Raises:
            NoSuchFieldError: the payload is of no format, or the format has no such field.
        """
        layout = all_formats()[self.texts["raw_format"] or ""].layout if self.texts else None
        if layout is None or self.value is None:
            raise NoSuchFieldError("no known format reads the payload")
        text = self.value.decode()
        for field, value in texts.items():
            text = layout.with_field(text, field, value)
        return text.encode()


Patch = Callable[[Record], bytes | None]
"""Returns the new payload, or None to leave the record where it is."""


class Patched(NamedTuple):
    """What a patch makes of some letters, in their order.

    Attributes:
        values: the new payloads; null where the patch left the record out, or failed.
        failures: by row, how it failed: type and place of the exception, never its text, which may hold a value.
    """

    values: list[bytes | None]
    failures: Mapping[int, str]


def load_patch(path: Path) -> Patch:
    """Return the function `patch` of a Python file.

    Raises:
        UserError: the file cannot be read or run, or has no such function.
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
    """Return a patch that sets fields.

    Raises:
        UserError: a field is none of `cdr.DecodedFields`.
    """
    known = [field for field in DecodedFields.model_fields if field != "raw_format"]
    for field in assignments:
        if field not in known:
            raise UserError(f"--set {field}: there is no such field; expected one of {', '.join(known)}")
    return lambda record: record.with_fields(**assignments)


def apply_patch(patch: Patch, letters: pa.RecordBatch, topic: str) -> Patched:
    """Patch each record of rows of `orion_beam.io.letter_headers.LETTER_SCHEMA`; one that fails harms no other."""
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
    """Return the type of an exception and where in the patch it was raised."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError in line {error.lineno}"
    if isinstance(error, NoSuchFieldError):
        return f"{error}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return type(error).__name__ + (f" in line {lines[-1]}" if lines else "")
