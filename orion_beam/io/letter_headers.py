"""Conversion between dead letters and Kafka messages, whose headers say why a record was rejected.

The headers follow Kafka Connect's convention.
"""

import hashlib
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.codes import CUSTOM_CODE, CUSTOM_NAME, Code, Stage
from orion_beam.schemas.dead_letter import DEAD_LETTER_SCHEMA, LETTER_HEADERS
from orion_beam.transforms.arrow.texts import Mask, if_else, is_in, is_null, lengths_of, mask_of, take_texts, to_list
from orion_beam.transforms.decoders.payloads import are_utf8
from orion_beam.transforms.stage.batches import batch_of, columns_of, filter_rows
from orion_beam.transforms.stage.rejects import ATTEMPT_HEADER

REDRIVE_HEADER = "orion.redrive.id"
"""Id of the redrive that sent a record; the journal lists it."""
REDRIVE_SOURCE_HEADER = "orion.redrive.source"
"""Place that a redriven record came from, as `TOPIC[PARTITION]@OFFSET`."""
REDRIVE_REASON_HEADER = "orion.redrive.reason"
"""Reason why a redriven record has another timestamp; without the header it has its own."""

MAX_REFERENCE_KEY_BYTES = 65_536
"""Longest key that a letter by reference keeps. The key determines the letter's partition."""


class Reference(StrEnum):
    """State of a letter by reference, which has no value and says where its record is."""

    OPEN = "open"
    """The record has not been looked up."""
    FOLLOWED = "followed"
    """The record was read from its raw topic, and the letter has its key, value and headers."""
    GONE = "gone"
    """The raw topic no longer holds the record."""


LETTER_SCHEMA = pa.schema(
    [
        *DEAD_LETTER_SCHEMA,
        pa.field("letter_partition", pa.int32()),
        pa.field("letter_offset", pa.int64()),
        pa.field("reference", pa.string()),
    ]
)
"""Schema of a dead letter that was read: its fields, its partition and offset, and its `Reference` (null for others).

`orion_beam.dlq.references` looks up the records of letters by reference.
"""

_OWN_NAMES = pa.array(LETTER_HEADERS.values())
_ALL_OWN_NAMES = pa.array([*LETTER_HEADERS.values(), REDRIVE_HEADER, REDRIVE_SOURCE_HEADER, REDRIVE_REASON_HEADER])
"""Names of all headers that this product sets. Headers of others may begin with `orion.` as well."""
OWN_NAMES = frozenset(_ALL_OWN_NAMES.to_pylist())

MESSAGE_SCHEMA = pa.schema([DEAD_LETTER_SCHEMA.field(name) for name in ("key", "value", "headers")])
"""Schema of a dead letter as a Kafka message."""


def messages_of(letters: pa.RecordBatch) -> pa.RecordBatch:
    """Convert dead letters to Kafka messages.

    The headers are those of the source, then ours. Our headers of an earlier attempt are dropped.

    Args:
        letters: Rows of `dead_letter.DEAD_LETTER_SCHEMA`.

    Returns:
        Rows of MESSAGE_SCHEMA, one per letter, in order.
    """
    count = letters.num_rows
    sent = _HeaderRows.of(letters.column("headers")).of_the_source()
    own = pa.concat_arrays([_header_values(letters.column(field)) for field in LETTER_HEADERS])
    own_names = _OWN_NAMES.take(pa.array(np.repeat(np.arange(len(_OWN_NAMES)), count)))
    headers = _HeaderRows(
        pa.concat_arrays([sent.names, own_names]),
        pa.concat_arrays([sent.values, own]),
        np.concatenate([sent.rows, np.tile(np.arange(count), len(_OWN_NAMES))]),
        count,
    )
    is_there = np.concatenate([np.ones(len(sent.rows), np.bool_), ~is_null(own)])
    # A stable sort keeps the order of a row's headers: those of the source come first.
    order = np.argsort(headers.rows, kind="stable")
    columns = {
        "key": letters.column("key"),
        "value": letters.column("value"),
        "headers": headers.taken(order[is_there[order]]).lists(),
    }
    return batch_of(columns, MESSAGE_SCHEMA)


def by_reference(letters: pa.RecordBatch) -> pa.RecordBatch:
    """Convert letters that are too large for their topic to letters by reference.

    They have no value, no headers of the source, and no key above MAX_REFERENCE_KEY_BYTES. Our headers give the place,
    the size and the hash of the payload.

    Args:
        letters: Rows of `dead_letter.DEAD_LETTER_SCHEMA`.
    """
    count = letters.num_rows
    values = [value or b"" for value in to_list(letters.column("value"))]
    keys = [
        key if key is None or len(key) <= MAX_REFERENCE_KEY_BYTES else None for key in to_list(letters.column("key"))
    ]
    columns = columns_of(letters) | {
        "key": pa.array(keys, pa.binary()),
        "value": pa.nulls(count, pa.binary()),
        "headers": pa.array([[]] * count, DEAD_LETTER_SCHEMA.field("headers").type),
        "payload_bytes": pa.array(map(len, values), pa.int64()),
        "payload_sha256": pa.array([payload_hash(value) for value in values], pa.string()),
    }
    return batch_of(columns, DEAD_LETTER_SCHEMA)


def payload_hash(value: bytes | None) -> str:
    """Return the SHA-256 of a payload in hexadecimal, as letters by reference have it; null counts as empty."""
    return hashlib.sha256(value or b"").hexdigest()


def _header_values(column: pa.Array) -> pa.BinaryArray:
    if pa.types.is_list(column.type):
        column = pc.binary_join(column, ",")
    elif pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return column.cast(pa.string()).cast(pa.binary())


class ReadLetters(NamedTuple):
    """Messages of a dead-letter topic, parsed.

    Attributes:
        letters: Dead letters of this product, as LETTER_SCHEMA, in order.
        foreign: Other messages, unchanged: they lack our headers, or a header has a value that we never write.
    """

    letters: pa.RecordBatch
    foreign: pa.RecordBatch


def letters_of(messages: pa.RecordBatch) -> ReadLetters:
    """Parse dead-letter messages into dead-letter rows; the inverse of `messages_of`.

    Anybody can write to a topic, so every header is checked. If a header occurs twice, the last one counts.

    Args:
        messages: Rows of `raw.RAW_MESSAGE_SCHEMA`, read from a dead-letter topic.
    """
    headers = _HeaderRows.of(messages.column("raw_headers"))
    texts = {field: headers.texts(name) for field, name in LETTER_HEADERS.items()}
    is_ours = np.ones(messages.num_rows, np.bool_)
    for field, pattern in _PATTERNS.items():
        is_ours &= mask_of(pc.match_substring_regex(texts[field], pattern)) | _may_lack(field, texts[field])
    is_ours &= is_in(texts["stage"], _STAGES) | _match(texts["stage"], CUSTOM_NAME)
    is_ours &= _are_codes(texts["code"])
    codes, fields = (pc.split_pattern(texts[field].fill_null(""), ",") for field in ("codes", "fields"))
    is_ours &= lengths_of(codes) == lengths_of(fields)
    rows = np.repeat(np.arange(messages.num_rows), lengths_of(codes))
    is_ours[rows[~_are_codes(codes.flatten())]] = False
    ours = filter_rows(messages, is_ours)
    columns = {
        field: text.filter(pa.array(is_ours)) for field, text in {**texts, "codes": codes, "fields": fields}.items()
    }
    columns |= {name: ours.column(original) for name, original in _AS_READ.items()}
    columns["headers"] = headers.of_the_source().lists().filter(pa.array(is_ours))
    is_reference = mask_of(columns["payload_sha256"].is_valid())
    columns["reference"] = take_texts(pa.array([Reference.OPEN.value]), np.where(is_reference, 0, -1))
    typed = {field.name: _typed(columns[field.name], field.type) for field in LETTER_SCHEMA}
    return ReadLetters(batch_of(typed, LETTER_SCHEMA), filter_rows(messages, ~is_ours))


def without_own_headers(headers: pa.ListArray) -> pa.ListArray:
    """Return the headers of the source of each row, in order, without ours."""
    return _HeaderRows.of(headers).of_the_source().lists()


class RedriveHeaders(NamedTuple):
    """Headers of a record that a redrive has sent.

    Attributes:
        id: Id of the redrive.
        source: Place that the record came from, as `TOPIC[PARTITION]@OFFSET`.
        attempt: Number of times that the record was sent, this one included.
        reason: Reason why the record has another timestamp; None if it has its own.
    """

    id: str
    source: str
    attempt: str
    reason: str | None


def redrives_of(messages: pa.RecordBatch) -> list[RedriveHeaders | None]:
    """Return the redrive headers of each raw message; None for a message that no redrive has sent.

    Args:
        messages: Rows of `raw.RAW_MESSAGE_SCHEMA`.
    """
    headers = _HeaderRows.of(messages.column("raw_headers"))
    if not mask_of(pc.equal(headers.names, REDRIVE_SOURCE_HEADER)).any():
        return [None] * messages.num_rows
    names = (REDRIVE_HEADER, REDRIVE_SOURCE_HEADER, ATTEMPT_HEADER, REDRIVE_REASON_HEADER)
    rows = zip(*(headers.texts(name).to_pylist() for name in names), strict=True)
    return [RedriveHeaders(*row) if None not in row[:3] else None for row in rows]


class _HeaderRows(NamedTuple):
    """Headers of all rows as flat columns, with the row that each header belongs to."""

    names: pa.StringArray
    values: pa.BinaryArray
    rows: npt.NDArray[np.int64]
    row_count: int

    @classmethod
    def of(cls, column: pa.ListArray) -> "_HeaderRows":
        pairs = column.flatten()
        rows = np.repeat(np.arange(len(column)), lengths_of(column))
        return cls(pairs.field("key"), pairs.field("value"), rows, len(column))

    def texts(self, name: str) -> pa.StringArray:
        """Return the value of one header for each row; null if the row lacks it, or if it is not UTF-8."""
        found = np.flatnonzero(mask_of(pc.equal(self.names, name)))
        places = np.full(self.row_count, -1)
        # For repeated indexes numpy keeps the last assignment, so the last header of a row counts.
        places[self.rows[found]] = found
        values = self.values.take(pa.array(places, mask=places < 0))
        is_text = are_utf8(values)
        return (values if is_text.all() else if_else(is_text, values, None)).cast(pa.string())

    def of_the_source(self) -> "_HeaderRows":
        """Return the headers without ours."""
        return self.taken(np.flatnonzero(~is_in(self.names, _ALL_OWN_NAMES)))

    def taken(self, places: npt.NDArray[np.int64]) -> "_HeaderRows":
        """Return the headers at these indexes."""
        indices = pa.array(places)
        return self._replace(names=self.names.take(indices), values=self.values.take(indices), rows=self.rows[places])

    def lists(self) -> pa.ListArray:
        """Return a list of headers for each row; the headers must be sorted by row."""
        offsets = np.zeros(self.row_count + 1, np.int32)
        np.cumsum(np.bincount(self.rows, minlength=self.row_count), out=offsets[1:])
        kind = LETTER_SCHEMA.field("headers").type
        pairs = pa.StructArray.from_arrays([self.names, self.values], fields=list(kind.value_type))
        return pa.ListArray.from_arrays(pa.array(offsets), pairs, type=kind)


def _are_codes(texts: pa.StringArray) -> Mask:
    return is_in(texts, _CODES) | _match(texts, CUSTOM_CODE)


def _match(texts: pa.StringArray, pattern: str) -> Mask:
    return mask_of(pc.match_substring_regex(texts, f"^({pattern})$").fill_null(False))


def _may_lack(field: str, texts: pa.StringArray) -> Mask:
    return is_null(texts) if field in _NULLABLE else np.zeros(len(texts), np.bool_)


def _typed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind) and pa.types.is_string(column.type):
        column = column.cast(pa.int64())
    return column.cast(kind)


_PATTERNS = {
    "message": "",
    "fields": "",
    "version": "",
    "source_topic": "^[a-zA-Z0-9._/-]+$",
    "source_partition": "^[0-9]{1,9}$",
    "source_offset": "^[0-9]{1,18}$",
    "source_timestamp": "^-?[0-9]{1,13}$",
    "country": "^[A-Z]{2}$",
    "attempt": "^[1-9][0-9]{0,8}$",
    "failed_at": "^-?[0-9]{1,13}$",
    "run_id": "^[a-zA-Z0-9._-]+$",
    "payload_bytes": "^[0-9]{1,10}$",
    "payload_sha256": "^[0-9a-f]{64}$",
}
"""Regular expression for each of our headers; stage and codes are those of their enums, or of the user's own."""

_NULLABLE = {"source_timestamp", "run_id", "payload_bytes", "payload_sha256"}
_STAGES, _CODES = pa.array([stage.value for stage in Stage]), pa.array([code.value for code in Code])
_AS_READ = {
    "key": "raw_key",
    "value": "raw_value",
    "letter_partition": "source_partition",
    "letter_offset": "source_offset",
}
