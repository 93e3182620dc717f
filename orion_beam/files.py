"""Files: raw records one a line, and Avro containers of CDRs and dead letters."""

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import apache_beam as beam
import fastavro
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from pydantic import BaseModel

from orion_beam.config import FileSource
from orion_beam.metrics import HEADER_LINES
from schemas.country import CountryProfile
from schemas.dead_letter import DeadLetter
from schemas.derive import avro_schema
from schemas.fields import BLANKS
from schemas.raw import RAW_CDR_SCHEMA
from transforms.batches import MAX_ROWS, at_bundle_end, batch_of
from transforms.counters import count
from transforms.decode import column_names_of
from transforms.encode import avro_bodies
from transforms.texts import to_list

FINAL_FILE = "cdr.final.avro"
DEAD_LETTER_FILE = "cdr.dlq.avro"
FINAL_DIRECTORY = "cdr.final"
DEAD_LETTER_DIRECTORY = "cdr.dlq"

_BLOCK_BYTES = 1 << 20


def lines_of(file: IO[bytes], block_bytes: int = _BLOCK_BYTES) -> Iterator[list[bytes]]:
    r"""Yield the lines of a file in lists; they are split at `\n` alone, and may hold any other byte."""
    rest: list[bytes] = []
    while block := file.read(block_bytes):
        first, *others = block.split(b"\n")
        rest.append(first)
        if others:
            yield [b"".join(rest), *others[:-1]]
            rest = [others[-1]]
    # Bytes after the last newline are a line of their own; nothing after it is none.
    if last := b"".join(rest):
        yield [last]


class _ReadLines(beam.DoFn):  # type: ignore[misc]
    def __init__(self, profiles: Mapping[str, CountryProfile]) -> None:
        self._profiles = profiles

    def process(self, source: tuple[str, str]) -> Iterator[pa.RecordBatch]:
        country, path = source
        arrived = datetime.fromtimestamp(Path(path).stat().st_mtime, UTC)
        with FileSystems.open(path) as file:
            lines = itertools.chain.from_iterable(lines_of(file))
            offset = 0
            first = list(itertools.islice(lines, 1))
            if first and _is_column_names(first[0], self._profiles[country]):
                count(HEADER_LINES, country)
                first, offset = [], 1
            lines = itertools.chain(first, lines)
            while chunk := list(itertools.islice(lines, MAX_ROWS)):
                yield _batch(chunk, country, path, offset, arrived)
                offset += len(chunk)


def _is_column_names(line: bytes, profile: CountryProfile) -> bool:
    text = line.decode("utf-8-sig", errors="replace").strip(BLANKS)
    return text in column_names_of(profile)


def _batch(lines: list[bytes], country: str, path: str, offset: int, arrived: datetime) -> pa.RecordBatch:
    rows = len(lines)
    columns = {
        "raw_key": pa.nulls(rows, pa.binary()),
        "raw_value": pa.array(lines, pa.binary()),
        "raw_headers": pa.array([[]] * rows, RAW_CDR_SCHEMA.field("raw_headers").type),
        "source_topic": pa.repeat(path, rows),
        "source_partition": pa.repeat(pa.scalar(0, pa.int32()), rows),
        "source_offset": pa.array(range(offset, offset + rows), pa.int64()),
        "source_timestamp": pa.repeat(pa.scalar(arrived, pa.timestamp("ms", "UTC")), rows),
        "country": pa.repeat(country, rows),
    }
    return batch_of(columns, RAW_CDR_SCHEMA)


class ReadFiles(beam.PTransform):  # type: ignore[misc]
    r"""Reads files of one record a line, split at `\n` alone.

    Out: `pa.RecordBatch` of `schemas.raw.RAW_CDR_SCHEMA`: the path is the topic, 0 the partition, the line number from
    0 the offset, and the file's last modification stands in for the Kafka timestamp. A first line that names the
    columns of one of the country's formats is skipped and counted. Bounded.
    """

    def __init__(self, source: FileSource, profiles: Mapping[str, CountryProfile]) -> None:
        """Take the files and the profiles of their countries."""
        super().__init__()
        self.source = source
        self.profiles = profiles

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Read each file as a whole."""
        files = pipeline | "ListFiles" >> beam.Create(list(self.source.inputs), reshuffle=False)
        return files | "ReadLines" >> beam.ParDo(_ReadLines(self.profiles)).with_output_types(pa.RecordBatch)


class WriteAvroFile(beam.PTransform):  # type: ignore[misc]
    """Writes encoded records to one Avro object container file.

    In: `list[bytes]`, Avro bodies, a batch at a time. Each bundle writes a part, and the parts are joined at the end
    under the final name: a run that fails leaves no file of that name behind. Without records the file has a header
    only.
    """

    def __init__(self, path: Path, model: type[BaseModel]) -> None:
        """Take the path and the record that the file is of."""
        super().__init__()
        self.path = path
        self.model = model

    def expand(self, bodies: beam.PCollection) -> beam.PCollection:
        """Write parts, then join them."""
        sync = os.urandom(16)
        parts = bodies | "WriteParts" >> beam.ParDo(_WritePart(self.path, sync))
        once = bodies.pipeline | "Once" >> beam.Create([self.path], reshuffle=False)
        return once | "JoinParts" >> beam.ParDo(_JoinParts(self.model, sync), beam.pvalue.AsIter(parts))


class _WritePart(beam.DoFn):  # type: ignore[misc]
    def __init__(self, path: Path, sync: bytes) -> None:
        self._path = path
        self._sync = sync

    def start_bundle(self) -> None:
        self._discard()
        self._part: IO[bytes] | None = None

    def process(self, bodies: list[bytes]) -> None:
        """Append one block: count, size, bodies, sync marker (Avro 1.12 specification, Object Container Files)."""
        if not bodies:
            return
        if self._part is None:
            self._part = tempfile.NamedTemporaryFile(  # noqa: SIM115 - it is closed when the bundle ends
                prefix=f".{self._path.name}.", dir=self._path.parent, delete=False
            )
        content = b"".join(bodies)
        self._part.write(b"".join([_long(len(bodies)), _long(len(content)), content, self._sync]))

    def finish_bundle(self) -> Iterator[object]:
        if self._part is not None:
            self._part.close()
            part, self._part = self._part.name, None
            yield at_bundle_end(part)

    def teardown(self) -> None:
        self._discard()

    def _discard(self) -> None:
        """Remove the part of a bundle that failed."""
        part = getattr(self, "_part", None)
        if part is not None:
            part.close()
            Path(part.name).unlink(missing_ok=True)


class _JoinParts(beam.DoFn):  # type: ignore[misc]
    def __init__(self, model: type[BaseModel], sync: bytes) -> None:
        self._schema = avro_schema(model)
        self._sync = sync

    def process(self, path: Path, parts: Iterable[str]) -> Iterator[str]:
        joined = path.with_name(f".{path.name}.joined")
        with joined.open("wb") as file:
            fastavro.writer(file, json.loads(self._schema), [], sync_marker=self._sync)
            for part in parts:
                with open(part, "rb") as content:
                    shutil.copyfileobj(content, file)
        joined.replace(path)
        for part in parts:
            Path(part).unlink()
        yield str(path)


def _long(value: int) -> bytes:
    """Return an Avro long of a number that is not negative: zigzag, then seven bits a byte, the lowest first."""
    value <<= 1
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def values_of(batch: pa.RecordBatch) -> list[bytes]:
    """Return the values of a batch of `transforms.encode.ENCODED_SCHEMA`."""
    return to_list(batch.column("value"))


def dead_letter_bodies(batch: pa.RecordBatch) -> list[bytes]:
    """Return the Avro bodies of a batch of `schemas.dead_letter.DEAD_LETTER_SCHEMA`: few, and of any bytes."""
    return avro_bodies(batch, DeadLetter)
