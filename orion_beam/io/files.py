"""Files: raw records, one per line, and Avro container files of CDRs and dead letters."""

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from fastavro.write import Writer

from orion_beam.config import FileSource
from orion_beam.errors import InputFileError
from orion_beam.io.lines import chunks_of, count_in, kinds_of
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.dead_letter import DeadLetter
from orion_beam.schemas.raw import RAW_CDR_SCHEMA
from orion_beam.telemetry.logs import say
from orion_beam.telemetry.masking import shown
from orion_beam.telemetry.run_counters import LINES, TRAILER_LINES
from orion_beam.transforms.arrow.texts import row_by_row, to_list
from orion_beam.transforms.decoders.payloads import are_utf8
from orion_beam.transforms.encode import avro_bodies
from orion_beam.transforms.reference.file_content import as_utf8, encoding_of, open_whole
from orion_beam.transforms.stage.batches import MAX_ROWS, at_bundle_end, batch_of
from orion_beam.transforms.stage.counters import count

FINAL_FILE = "cdr.final.avro"
DEAD_LETTER_FILE = "cdr.dlq.avro"
FINAL_DIRECTORY = "cdr.final"
DEAD_LETTER_DIRECTORY = "cdr.dlq"


class ReadFiles(beam.PTransform):  # type: ignore[misc]
    r"""Reads files with one record per line; a line ends at `\n` only.

    Out: `pa.RecordBatch` of `raw.RAW_CDR_SCHEMA`. The topic is the path, the partition is 0, and the offset is the
    line number, counted from 0. `FileSource.received_at`, or else the file's modification time, replaces the Kafka
    timestamp. Bounded.

    A file is opened once and read from start to end, so it may be a pipe. The job fails if a compressed file is cut
    off. Lines that are not records (`orion_beam.io.lines`) are skipped and counted. A file that cannot be read raises
    an InputFileError that names it.
    """

    def __init__(self, source: FileSource, profiles: Mapping[str, CountryProfile]) -> None:
        """Take the files and the profiles of their countries."""
        super().__init__()
        self.source = source
        self.profiles = profiles

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Create one element per file, and read each file in one piece."""
        # The elements are indexes of files: no coder encodes a path of arbitrary bytes.
        files = pipeline | "ListFiles" >> beam.Create(range(len(self.source.inputs)), reshuffle=False)
        read = beam.ParDo(_ReadLines(self.source, self.profiles)).with_output_types(pa.RecordBatch)
        return files | "ReadLines" >> read


class _ReadLines(beam.DoFn):  # type: ignore[misc]
    def __init__(self, source: FileSource, profiles: Mapping[str, CountryProfile]) -> None:
        self._source = source
        self._profiles = profiles

    def process(self, number: int) -> Iterator[pa.RecordBatch]:
        country, path = self._source.inputs[number]
        encoding = self._source.encoding
        reading = _Reading(shown(path), self._profiles[country], encoding)
        try:
            arrived = self._source.received_at or datetime.fromtimestamp(path.stat().st_mtime, UTC)
            with open_whole(str(path)) as opened:
                file = opened if encoding is None else as_utf8(opened, encoding)
                for chunk in chunks_of(file, MAX_ROWS):
                    if (batch := reading.batch_of(chunk, arrived)).num_rows:
                        yield batch
        except OSError as error:
            raise InputFileError(f"{reading.name}: {error.strerror or error}") from None
        reading.warn()


class _Reading:
    """State of one file while it is read: its line and record counts, and its lines of another encoding."""

    def __init__(self, name: str, profile: CountryProfile, encoding: str | None) -> None:
        self.name, self._profile, self._encoding = name, profile, encoding
        self._lines = self._records = 0
        self._broken, self._first_broken, self._may_be_latin_1 = 0, 0, True

    def batch_of(self, lines: list[bytes], arrived: datetime) -> pa.RecordBatch:
        """Return the records among the next lines, and count the lines that are not records.

        Raises:
            InputFileError: The text is UTF-16 or UTF-32.
        """
        if self._lines == 0 and self._encoding is None and (found := encoding_of(b"\n".join(lines[:_HEAD_LINES]))):
            raise InputFileError(f"{self.name}: its text is {found.upper()}, not UTF-8: give --encoding {found}")
        country, texts = self._profile.code, pa.array(lines, pa.binary())
        kinds = kinds_of(texts, self._profile)
        is_record = np.ones(len(lines), np.bool_)
        is_record[list(kinds)] = False
        count(LINES, country, rows=len(lines))
        for place, kind in kinds.items():
            count(kind, country)
            if kind == TRAILER_LINES:
                self._compare(lines[place], place, self._records + int(is_record[:place].sum()))
        self._note_encoding(texts)
        batch = _batch(texts, country, self.name, self._lines, arrived)
        self._lines, self._records = self._lines + len(lines), self._records + int(is_record.sum())
        return batch.filter(pa.array(is_record)) if kinds else batch

    def _compare(self, trailer: bytes, place: int, records: int) -> None:
        """Warn when the count in a trailer differs from the number of records before it."""
        counted = count_in(trailer)
        # Some senders count the header and the trailer, too.
        if counted is not None and not records <= counted <= records + 2:
            found = (
                f"the trailer in line {self._lines + place + 1} says {counted}, and {records} records came before it"
            )
            _warn(f"{self.name}: {found}: the file may not be complete")

    def _note_encoding(self, texts: pa.BinaryArray) -> None:
        rows = np.flatnonzero(~are_utf8(texts))
        if len(rows):
            self._first_broken = self._first_broken or self._lines + int(rows[0]) + 1
            self._broken += len(rows)
            self._may_be_latin_1 &= not any(row_by_row(rows[:_HEAD_LINES], texts, _C1_CONTROLS.search))

    def warn(self) -> None:
        """Warn when lines of the file are not in the expected encoding, and say how many."""
        if not self._broken:
            return
        found = f"{self._broken} of {self._lines} lines are not {self._encoding or 'UTF-8'}, first line"
        rejected = f"{self.name}: {found} {self._first_broken}: they are dead letters (invalid_encoding)"
        name, encoding = ("Latin-1", "latin-1") if self._may_be_latin_1 else ("Windows-1252", "cp1252")
        advice = f"; if the file is {name}, --encoding {encoding} reads them" if self._encoding is None else ""
        _warn(rejected + advice)


def _warn(text: str) -> None:
    # A logger writes only ten warnings of a kind, and each file has a warning of its own.
    say(f"warning: {text}", logging.WARNING)


_HEAD_LINES = 100
_C1_CONTROLS = re.compile(rb"[\x80-\x9f]")
"""Bytes that are printable characters in Windows-1252, and control characters in Latin-1."""


def _batch(lines: pa.BinaryArray, country: str, name: str, offset: int, arrived: datetime) -> pa.RecordBatch:
    rows = len(lines)
    columns = {
        "raw_key": pa.nulls(rows, pa.binary()),
        "raw_value": lines,
        "raw_headers": pa.array([[]] * rows, RAW_CDR_SCHEMA.field("raw_headers").type),
        "source_topic": pa.repeat(name, rows),
        "source_partition": pa.repeat(pa.scalar(0, pa.int32()), rows),
        "source_offset": pa.array(range(offset, offset + rows), pa.int64()),
        "source_timestamp": pa.repeat(pa.scalar(arrived, pa.timestamp("ms", "UTC")), rows),
        "country": pa.repeat(country, rows),
    }
    return batch_of(columns, RAW_CDR_SCHEMA)


class WriteAvroFile(beam.PTransform):  # type: ignore[misc]
    """Writes encoded records to one Avro object container file.

    In: `list[bytes]`, the Avro bodies of a batch, or a tuple of such inputs. Each bundle writes a part. At the end the
    parts are joined under the final name, so a run that fails leaves no file of that name. Without records the file has
    only a header.
    """

    def __init__(self, path: Path, schema: str) -> None:
        """Take the path of the file and the Avro schema of its records, as JSON."""
        super().__init__()
        self.path = path
        self.schema = schema

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no tuples of inputs
    def expand(self, bodies: beam.PCollection | tuple[beam.PCollection, ...]) -> beam.PCollection:
        """Write parts, then join them."""
        sync = os.urandom(16)
        inputs = bodies if isinstance(bodies, tuple) else (bodies,)
        write = beam.ParDo(_WritePart(self.path, self.schema, sync))
        parts = [each | f"WriteParts {number}" >> write for number, each in enumerate(inputs, 1)] | beam.Flatten()
        once = inputs[0].pipeline | "Once" >> beam.Create([self.path], reshuffle=False)
        return once | "JoinParts" >> beam.ParDo(_JoinParts(self.schema, sync), beam.pvalue.AsIter(parts))


class _EncodedBlock(NamedTuple):
    """Block of encoded records, with the two attributes of a block that fastavro's writer reads."""

    num_records: int
    bytes_: BytesIO


def _container(file: IO[bytes], schema: str, sync: bytes) -> Writer:
    """Begin a container file: write its header, which is the same for the same schema and sync marker."""
    return Writer(file, json.loads(schema), sync_marker=sync)


class _WritePart(beam.DoFn):  # type: ignore[misc]
    def __init__(self, path: Path, schema: str, sync: bytes) -> None:
        self._path = path
        self._schema = schema
        self._sync = sync

    def start_bundle(self) -> None:
        self._discard()
        self._part: IO[bytes] | None = None

    def process(self, bodies: list[bytes]) -> None:
        """Append one block to the part, which is a container file of its own."""
        if not bodies:
            return
        if self._part is None:
            self._part = tempfile.NamedTemporaryFile(  # noqa: SIM115 - finish_bundle closes it
                prefix=f".{self._path.name}.", dir=self._path.parent, delete=False
            )
            self._writer = _container(self._part, self._schema, self._sync)
        self._writer.write_block(_EncodedBlock(len(bodies), BytesIO(b"".join(bodies))))

    def finish_bundle(self) -> Iterator[object]:
        if self._part is not None:
            self._part.close()
            part, self._part = os.fsencode(self._part.name), None
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
    def __init__(self, schema: str, sync: bytes) -> None:
        self._schema = schema
        self._sync = sync

    def process(self, path: Path, parts: Iterable[bytes]) -> Iterator[str]:
        joined = path.with_name(f".{path.name}.joined")
        with joined.open("wb") as file:
            _container(file, self._schema, self._sync)
            header_bytes = file.tell()
            for part in parts:
                with open(part, "rb") as content:
                    content.seek(header_bytes)
                    shutil.copyfileobj(content, file)
        joined.replace(path)
        for part in parts:
            os.unlink(part)
        yield shown(path)


def values_of(batch: pa.RecordBatch) -> list[bytes]:
    """Return the values of a batch of `encode.ENCODED_SCHEMA`."""
    return to_list(batch.column("value"))


def dead_letter_bodies(batch: pa.RecordBatch) -> list[bytes]:
    """Return the Avro bodies of a batch of `dead_letter.DEAD_LETTER_SCHEMA`."""
    return avro_bodies(batch, DeadLetter)
