"""What `make fuzz` gives bytes to: each target takes records of any bytes, and checks what must hold for all of them.

A target returns the features of the records: what the code made of them, such as their format and the fields that are
null. The fuzzer keeps inputs with a new feature. The decoders work on columns and in compiled loops, so features tell
more than the lines of Python that ran.
"""

import io
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from orion_beam.chain import chain_of, load_reference
from orion_beam.countries import all_profiles
from orion_beam.errors import UserError
from orion_beam.inspect.final_values import FinalReader
from orion_beam.io.frames import decode_frame
from orion_beam.io.letter_headers import letters_of, messages_of
from orion_beam.job_file.read import read_job
from orion_beam.proof.avro_tail import NO_TIMESTAMP, AvroTail
from orion_beam.proof.cdr_reader import CdrReader
from orion_beam.schemas.avro_format import single_object_header
from orion_beam.schemas.cdr import UNIFIED_SCHEMA, UnifiedCdr
from orion_beam.schemas.codes import Code
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.raw import RAW_CDR_SCHEMA, RAW_MESSAGE_SCHEMA
from orion_beam.transforms.arrow.texts import mask_of
from orion_beam.transforms.decoders.declared import compiled_format
from orion_beam.transforms.decoders.payloads import Payloads
from orion_beam.transforms.decoders.registry import SHIPPED, load_format
from orion_beam.transforms.encode import Wire, encode_batch
from orion_beam.transforms.stage.batches import SplitBatch
from orion_beam.workspace import JOB_FILE, Workspace
from tests.agreement import assert_agreement
from tests.letters import LETTER, headers_of
from tests.orion_beam.io.test_frames import AWKWARD, encode
from tests.strategies import ARRIVED

CUT = b"\xff\xfe\xff\xfd"
"""Stands between the records of an input. No UTF-8 text holds it."""

TESTDATA = Path(__file__).parents[1] / "testdata"

Features = set[Hashable]


@dataclass(frozen=True)
class Target:
    """A parser under test.

    Attributes:
        check: Takes records, and raises an error if the parser does what it must not. Returns their features.
        seeds: Inputs to begin with.
        is_file: Whether a record is a text file, which is parsed alone and slowly.
    """

    check: Callable[[Sequence[bytes]], Features]
    seeds: Callable[[], Iterable[bytes]]
    is_file: bool = False


def records_in(data: bytes) -> list[bytes]:
    """Return the records of an input."""
    return data.split(CUT)


# Decoders, and the stages behind them.


def _check_country(country: str, records: Sequence[bytes], *, whole: bool = False) -> Features:
    """Every row comes out once, in order and unchanged; what becomes of it depends on no other row."""
    batch = _raw(country, records)
    forwards = _outcomes(country, batch, whole)
    backwards = _outcomes(country, batch.take(pa.array(range(len(records) - 1, -1, -1))), whole)
    found: Features = set()
    for (stage, given, ahead), (_, _, back) in zip(forwards, backwards, strict=True):
        _expect_all_rows(given, ahead)
        _expect_same(ahead.accepted, back.accepted)
        _expect_same(ahead.rejected, back.rejected)
        codes = ahead.rejected.column("codes").flatten().unique().to_pylist()
        assert Code.INTERNAL_ERROR not in codes, stage
        found |= {(stage, code) for code in codes}
        if ahead.accepted.num_rows:
            found |= {(stage, *shape) for shape in _shapes(ahead.accepted)}
    if whole:
        accepted = forwards[-1][2].accepted
        assert encode_batch(accepted, UnifiedCdr, _WIRE).accepted.num_rows == accepted.num_rows
    if zlib.crc32(records[0]) % 8 == 0:
        # The row-by-row oracle takes longer than a thousand rows here.
        assert_agreement(records[:1], [ARRIVED], all_profiles()[country])
    return found


def _outcomes(country: str, batch: pa.RecordBatch, whole: bool = True) -> list[tuple[str, pa.RecordBatch, SplitBatch]]:
    """Return stages with the rows that each was given and what it made of them: all, or decode and validate."""
    found = []
    for stage, split in list(_chain(country).items())[: None if whole else 2]:
        outcome = split(batch)
        found.append((str(stage), batch, outcome))
        batch = outcome.accepted
    return found


def _expect_all_rows(given: pa.RecordBatch, outcome: SplitBatch) -> None:
    rows = given.column("source_offset").to_numpy()
    values = given.column("raw_value")
    is_ahead = len(rows) < 2 or rows[0] < rows[-1]
    seen = []
    for part, column in ((outcome.accepted, "raw_value"), (outcome.rejected, "value")):
        part.validate(full=True)
        offsets = part.column("source_offset").to_numpy()
        places = np.searchsorted(rows, offsets) if is_ahead else len(rows) - 1 - np.searchsorted(rows[::-1], offsets)
        assert (np.diff(places) > 0).all()
        assert part.column(column).equals(values.take(pa.array(places)))
        seen.append(places)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(len(rows)))


def _expect_same(ahead: pa.RecordBatch, back: pa.RecordBatch) -> None:
    """The rows of a batch are those of the batch that came in reverse, in reverse."""
    assert ahead.num_rows == back.num_rows
    turned = back.take(pa.array(range(back.num_rows - 1, -1, -1), pa.int64()))
    for name in ahead.schema.names:
        if name != "failed_at":
            assert ahead.column(name).equals(turned.column(name)), name


def _shapes(batch: pa.RecordBatch) -> set[tuple[str, int]]:
    """Return the formats of the rows with the fields that are there."""
    there = np.zeros(batch.num_rows, np.int64)
    for place, column in enumerate(batch.columns[:40]):
        if column.null_count:
            there |= mask_of(column.is_valid()).astype(np.int64) << place
    return set(zip(batch.column("raw_format").to_pylist(), there.tolist(), strict=True))


def _raw(country: str, records: Sequence[bytes]) -> pa.RecordBatch:
    count = len(records)
    columns = {
        "raw_key": pa.nulls(count, pa.binary()),
        "raw_value": pa.array(records, pa.binary()),
        "raw_headers": pa.array([[]] * count, RAW_CDR_SCHEMA.field("raw_headers").type),
        "source_topic": pa.repeat(f"cdr.raw.{country}", count),
        "source_partition": pa.array(np.zeros(count, np.int32)),
        "source_offset": pa.array(np.arange(count)),
        "source_timestamp": pa.array(
            [ARRIVED if row % 8 else None for row in range(count)], RAW_CDR_SCHEMA.field("source_timestamp").type
        ),
        "country": pa.repeat(country, count),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in RAW_CDR_SCHEMA.names], schema=RAW_CDR_SCHEMA)


@cache
def _chain(country: str) -> dict[str, Any]:
    return chain_of(all_profiles()[country], load_reference())


_WIRE = Wire(single_object_header(avro_schema(UnifiedCdr)))


def _country_seeds(country: str, raw_format: str | None) -> Iterator[bytes]:
    lines = (TESTDATA / country.lower() / "input.txt").read_bytes().split(b"\n")
    decoded = _chain(country)["decode"](_raw(country, lines)).accepted
    is_it = zip(decoded.column("raw_value").to_pylist(), decoded.column("raw_format").to_pylist(), strict=True)
    own = [line for line, name in is_it if raw_format in (None, name)]
    yield from (CUT.join(own[start : start + 8]) for start in range(0, len(own), 8))
    yield CUT.join(line for line in lines if len(line) < 400)[:4_000]


# The frames of the batched read.


def _check_frames(records: Sequence[bytes]) -> Features:
    """A frame is a batch that holds what Arrow's rules say, or it is refused."""
    found: Features = set()
    for frame in records:
        try:
            batch = decode_frame(frame)
        except ValueError as error:
            found.add(re.sub(r"[^a-z ]", "", str(error)))
            continue
        batch.validate(full=True)
        found |= {tuple(column.null_count > 0 for column in batch.columns), ("rows", batch.num_rows.bit_length())}
    return found


def _frame_seeds() -> Iterator[bytes]:
    small = [record for record in AWKWARD if len(record.value or b"") < 100 and len(record.headers) < 100]
    yield from (encode("cdr.raw.FR", [record]) for record in small)
    yield encode("cdr.raw.TN", small)
    yield encode("t", [])


# Dead letters, as anybody may write them.


def _check_letters(records: Sequence[bytes]) -> Features:
    """Each message is a letter or foreign, and a letter that is written again is the same letter."""
    messages = _messages([_message(record) for record in records])
    read = letters_of(messages)
    assert read.letters.num_rows + read.foreign.num_rows == len(records)
    read.letters.validate(full=True)
    letters = read.letters.select(DEAD_LETTER_SCHEMA.names)
    again = messages_of(letters)
    sent = {f"raw_{name}": again.column(name) for name in ("key", "value", "headers")}
    places = {name: _nulls_or_numbers(name, again.num_rows) for name in RAW_MESSAGE_SCHEMA.names if name not in sent}
    columns = {**sent, **places}
    second = letters_of(pa.RecordBatch.from_arrays([columns[name] for name in RAW_MESSAGE_SCHEMA.names],
                                                   schema=RAW_MESSAGE_SCHEMA))  # fmt: skip
    assert second.foreign.num_rows == 0
    assert second.letters.select(DEAD_LETTER_SCHEMA.names).equals(letters)
    found: Features = {("foreign", read.foreign.num_rows > 0)}
    found |= {("stage", stage in STAGES, code) for stage, code in zip(
        letters.column("stage").to_pylist(), letters.column("code").to_pylist(), strict=True)}  # fmt: skip
    found |= {tuple(column.null_count > 0 for column in letters.columns)}
    return found


STAGES = ("decode", "validate", "normalize", "enrich", "encode")

_Message = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def _message(record: bytes) -> _Message:
    """Return the message of a record: lines of its key, its value, and headers NAME=VALUE."""
    key, value, *lines = [*record.split(b"\n"), b"", b""][: record.count(b"\n") + 2]
    headers: list[tuple[str, bytes | None]] = []
    for line in lines:
        name, equals, text = line.partition(b"=")
        headers.append((name.decode(errors="replace"), text if equals else None))
    return key or None, value or None, headers


def _messages(messages: Sequence[_Message]) -> pa.RecordBatch:
    counts = [len(headers) for _, _, headers in messages]
    kind = RAW_MESSAGE_SCHEMA.field("raw_headers").type
    pairs = pa.StructArray.from_arrays(
        [
            pa.array([name for _, _, headers in messages for name, _ in headers], pa.string()),
            pa.array([text for _, _, headers in messages for _, text in headers], pa.binary()),
        ],
        fields=list(kind.value_type),
    )
    offsets = pa.array(np.cumsum([0, *counts]), pa.int32())
    columns = {
        "raw_key": pa.array([key for key, _, _ in messages], pa.binary()),
        "raw_value": pa.array([value for _, value, _ in messages], pa.binary()),
        "raw_headers": pa.ListArray.from_arrays(offsets, pairs, type=kind),
    }
    columns |= {
        name: _nulls_or_numbers(name, len(messages)) for name in RAW_MESSAGE_SCHEMA.names if name not in columns
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in RAW_MESSAGE_SCHEMA.names], schema=RAW_MESSAGE_SCHEMA)


def _nulls_or_numbers(name: str, count: int) -> pa.Array:
    kind = RAW_MESSAGE_SCHEMA.field(name).type
    if name == "source_topic":
        return pa.repeat("cdr.dlq", count)
    return pa.nulls(count, kind) if pa.types.is_timestamp(kind) else pa.array(np.arange(count)).cast(kind)


def _letter_seeds() -> Iterator[bytes]:
    letters = [
        LETTER,
        LETTER | {"run_id": "replay-1", "code": "malformed_payload", "stage": "decode", "source_timestamp": None},
        LETTER | {"payload_bytes": 70_000, "payload_sha256": "0" * 64, "value": None},
    ]
    for letter in letters:
        headers = [name.encode() + (b"" if text is None else b"=" + text) for name, text in headers_of(letter)]
        yield b"\n".join([letter["key"], letter["value"] or b"", *headers])
    yield b"key\nvalue\nanything=else"


# Values on cdr.final, as anybody may write them.

_SCHEMA = avro_schema(UnifiedCdr)
_PARSED = fastavro.parse_schema(json.loads(_SCHEMA))


@cache
def _finals() -> list[bytes]:
    """Return values on cdr.final that the pipeline has written."""
    values = []
    for country in ("fr", "tn"):
        lines = (TESTDATA / country / "input.txt").read_bytes().split(b"\n")
        (*_, (_, _, enriched)) = _outcomes(country.upper(), _raw(country.upper(), lines))
        encoded = encode_batch(enriched.accepted, UnifiedCdr, _WIRE, None).accepted
        values += encoded.column("value").to_pylist()[:6]
    return values


@cache
def _learned() -> AvroTail:
    tail = AvroTail(_SCHEMA)
    rows = [{"source_topic": "cdr.raw.FR", "run_id": "replay-1"}, {"source_topic": "cdr.raw.TN"}]
    tail.learn(pa.RecordBatch.from_pylist(rows, schema=UNIFIED_SCHEMA))
    return tail


def _check_tails(records: Sequence[bytes]) -> Features:
    """What is read from the end of a record is what a decoder reads from its front."""
    tail = _learned()
    found = tail.read(records)
    features: Features = {("read", bool(each)) for each in found.is_read}
    for row in np.flatnonzero(found.is_read).tolist():
        body = io.BytesIO(records[row])
        try:
            record: Any = fastavro.schemaless_reader(body, _PARSED, None)
        except (EOFError, ValueError, IndexError, OverflowError, TypeError):
            features.add("not a record")
            continue
        if body.read(1):
            features.add("more than a record")
            continue
        timestamp = record["source_timestamp"]
        milliseconds = NO_TIMESTAMP if timestamp is None else round(timestamp.timestamp() * 1000)
        assert tail.topics[found.topic[row]] == record["source_topic"]
        assert found.partition[row] == record["source_partition"]
        assert found.offset[row] == record["source_offset"]
        assert found.timestamp_ms[row] == milliseconds
        features.add((record["source_topic"], timestamp is None, record["run_id"]))
    return features


def _tail_seeds() -> Iterator[bytes]:
    yield from (value[len(_WIRE.prefix or b"") :] for value in _finals())


def _check_finals(records: Sequence[bytes]) -> Features:
    """A value is a CDR, or no CDR, or of a schema that is asked for: whatever it is, it stops no reader."""
    features: Features = set()
    reader, one = CdrReader(), FinalReader()
    for batch in (records, *([record] for record in records)) if len(records) < 8 else (records,):
        try:
            features.add(("sources", len(reader.read(batch).rows).bit_length()))
        except UserError as error:
            features.add(re.sub("[^a-z ]", "", str(error))[:40])
    for record in records:
        cdr = one.read(record)
        features.add(None if cdr is None else tuple(value is None for value in cdr.values()))
    return features


def _final_seeds() -> Iterator[bytes]:
    yield from _finals()
    for value in _finals()[:3]:
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[10:]), _PARSED, None)
        yield json.dumps(record, default=str).encode()
        yield b"\0\0\0\0\1" + value[10:]
    yield b'{"country":"FR","source_topic":"t","source_partition":1,"source_offset":2,"source_timestamp":null}'


# Files that users write.


def _check_formats(records: Sequence[bytes]) -> Features:
    """A format file is refused in one line, or its decoder takes any payload."""
    features: Features = set()
    for text in records:
        path = _folder() / "format_x.toml"
        path.write_bytes(text)
        try:
            declaration = load_format(path)
        except ValueError as error:
            features.add(_words(str(error)))
            continue
        made = compiled_format(declaration)
        payloads = Payloads.of(pa.array(_PAYLOADS, pa.binary()))
        claimed = np.flatnonzero(made.claims(payloads))
        read = made.decode(payloads.of_rows(claimed))
        assert {len(column) for column in read.texts.values()} <= {len(claimed)}
        assert len(read.is_malformed) == len(claimed)
        features.add((declaration.kind, len(claimed), int(read.is_malformed.sum()), tuple(sorted(read.texts))))
    return features


_PAYLOADS = (b"208011234567890;+33612345678;352099001761481;FR-PAR-001;4G;1000;2000;2026-06-01T10:00:00Z",
             b'{"imsi":"608011234567890","subscriber":{"imsi":"6"},"network":{"cell":"x"},"usage":{"up":1}}',
             b"IMSI=608011234567890|MSISDN=+221771234567|CELL=SN-1|RAT=4G|UP=1|DOWN=2|TS=1780308000",
             b"608011234567890+221771234567   352099001761481SN-DKR-001" + b"4G" + b"000000000001" * 2 + b" " * 20,
             b"208011234567890|+33612345678|data|0|1|2", "é;é\0\"a\";\"".encode(), b" ", b";;;;;;;",
             b"x" * 300)  # fmt: skip


def _check_jobs(records: Sequence[bytes]) -> Features:
    """A job file is read, or refused in one line that names it."""
    features: Features = set()
    workspace = Workspace(_folder())
    for text in records:
        workspace.job_file.write_bytes(text)
        # The reader knows a file by its size and time, and two files may have the same.
        read_job.__globals__["_read"].cache_clear()
        try:
            job = read_job(workspace)
        except UserError as error:
            refusal = str(error)
        else:
            features.add(tuple(sorted(job.settings.model_fields_set)))
            continue
        assert JOB_FILE in refusal
        assert "\n" not in refusal
        features.add(_words(refusal))
    return features


@cache
def _folder() -> Path:
    """Return a folder for the files of this process, in memory where there is one."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="orion-fuzz-", dir=shared if os.access(shared, os.W_OK) else None))


def _words(text: str) -> str:
    """Return the words of an error, without what it quotes."""
    return " ".join(re.findall(r"(?<![\w'])[a-z]{2,}(?![\w'])", re.sub(r"'[^']*'|\"[^\"]*\"", "", text))[:12])


def _format_seeds() -> Iterator[bytes]:
    yield from (path.read_bytes() for path in sorted(SHIPPED.glob("*.toml")))


_JOB = b"""version: 1
brokers: localhost:9092
login:
  security.protocol: SASL_SSL
  sasl.mechanism: SCRAM-SHA-512
  sasl.username: orion
countries: [FR, TN]
group: orion-beam
topics: {prefix: "staging."}
reference: {cells: reference/cells.csv, subscribers: reference/subscribers.csv, refresh: 5m}
record_checks: {tag_partials: true, flag_duplicates: true, detect_gaps: true, gap_tolerance: 60s}
stages:
  - {name: my_stage, after: normalize, options: {a: [1, 2.5, no, null]}}
rules:
  FR: {luhn_failed: error}
flink: {master: "jobmanager:8081", workers: "localhost:50000", parallelism: 4, checkpointing_interval: 10s}
workers: {spares: 2, memory: 2GiB}
acls:
  stream: User:orion-stream
metrics: {port: 9311}
logging: {format: json}
"""


def _job_seeds() -> Iterator[bytes]:
    yield _JOB
    lines = _JOB.split(b"\n")
    yield from (b"\n".join([lines[0], line]) for line in lines[1:] if line and not line.startswith(b" "))


_COUNTRY_OF = {
    "ci_semicolon": "CI",
    "flat_json": "FR",
    "fr_semicolon": "FR",
    "ma_semicolon": "MA",
    "pipe_text": "FR",
    "sn_fixed_width": "SN",
    "sn_key_value": "SN",
    "tn_json": "TN",
}
"""A country that sends each shipped format."""

TARGETS = {
    **{
        name: Target(partial(_check_country, country), partial(_country_seeds, country, name))
        for name, country in _COUNTRY_OF.items()
    },
    **{
        f"stages_{country.lower()}": Target(
            partial(_check_country, country, whole=True), partial(_country_seeds, country, None)
        )
        for country in sorted(set(_COUNTRY_OF.values()))
    },
    "frames": Target(_check_frames, _frame_seeds),
    "letters": Target(_check_letters, _letter_seeds),
    "avro_tail": Target(_check_tails, _tail_seeds),
    "final_values": Target(_check_finals, _final_seeds),
    "format_files": Target(_check_formats, _format_seeds, is_file=True),
    "job_files": Target(_check_jobs, _job_seeds, is_file=True),
}
