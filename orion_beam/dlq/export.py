"""Export of dead letters to a file: Avro as `orion-beam run` writes it, or one JSON object per line."""

import base64
import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fastavro
import pyarrow as pa

from orion_beam.defaults import ExportFormat
from orion_beam.dlq.view import views_of
from orion_beam.errors import UserError
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA, DeadLetter
from orion_beam.schemas.derive import avro_schema


def export(batches: Iterable[pa.RecordBatch], path: Path, topic: str, kind: ExportFormat, *, reveal: bool) -> int:
    """Write letters to a file; the file appears when all letters are written, and not before.

    Args:
        batches: Batches of `orion_beam.io.letter_headers.LETTER_SCHEMA`.
        path: Path of the file.
        topic: Topic that the letters are on.
        kind: Format of the file.
        reveal: Whether to include the original bytes.

    Returns:
        Number of letters that were written.

    Raises:
        UserError: The file cannot be written, or would contain original bytes without `reveal`.
    """
    if kind is ExportFormat.AVRO and not reveal:
        raise UserError("an Avro export holds the original bytes: say --reveal, or take --format jsonl")
    written = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal written
        for batch in batches:
            written += batch.num_rows
            yield batch

    with _complete_or_absent(path) as file:
        _WRITERS[kind](counted(), file, topic, reveal)
    return written


def _write_avro(batches: Iterable[pa.RecordBatch], file: IO[bytes], _: str, __: bool) -> None:
    rows = (row for batch in batches for row in batch.select(DEAD_LETTER_SCHEMA.names).to_pylist())
    fastavro.writer(file, json.loads(avro_schema(DeadLetter)), rows)


def _write_jsonl(batches: Iterable[pa.RecordBatch], file: IO[bytes], topic: str, reveal: bool) -> None:
    for batch in batches:
        originals = _originals(batch) if reveal else [{}] * batch.num_rows
        for view, original in zip(views_of(batch, topic, reveal=reveal), originals, strict=True):
            file.write(json.dumps(view.as_json() | original, ensure_ascii=False).encode() + b"\n")


def _originals(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the key, value and headers of each letter in base64, since their text form is not exact."""
    return [
        {
            "key_base64": _base64(row["key"]),
            "value_base64": _base64(row["value"]),
            "headers_base64": [[header["key"], _base64(header["value"])] for header in row["headers"]],
        }
        for row in batch.select(["key", "value", "headers"]).to_pylist()
    ]


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


_WRITERS: dict[ExportFormat, Callable[[Iterable[pa.RecordBatch], IO[bytes], str, bool], None]] = {
    ExportFormat.AVRO: _write_avro,
    ExportFormat.JSONL: _write_jsonl,
}


@contextmanager
def _complete_or_absent(path: Path) -> Iterator[IO[bytes]]:
    """Open a draft of a file: it gets the file's name if the block succeeds, and is removed if it fails.

    A link stays one, such as /dev/stdout. A device or a pipe cannot be replaced by a draft, so it is written as it is.
    """
    device = None
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():
            device = path.open("wb")
        else:
            path = path.resolve()
            # mkstemp makes the draft readable for its owner only.
            handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise UserError(f"--output {path}: {error.strerror}") from None
    if device is not None:
        with device:
            yield device
        return
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
