"""DecodeCdrs: decodes raw messages, of mixed formats within a batch, to columns of text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from orion_beam.schemas.cdr import DECODED_SCHEMA, DecodedFields
from orion_beam.schemas.codes import Code, Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.raw import MAX_PAYLOAD_BYTES
from orion_beam.transforms.arrow.texts import Mask, Offsets, is_null, lengths_of, take_texts
from orion_beam.transforms.decoders.payloads import Payloads, are_utf8
from orion_beam.transforms.decoders.registry import formats_of
from orion_beam.transforms.decoders.unread_members import UnreadMember, unread_usage
from orion_beam.transforms.stage.batches import SplitBatch, concat_batches, empty_batch, filter_rows
from orion_beam.transforms.stage.join_countries import by_country
from orion_beam.transforms.stage.rejects import PAYLOAD_FIELD, Violation, dead_letters, no_rejects
from orion_beam.transforms.stage.split import Split, StageTransform

__all__ = ["DecodeCdrs", "column_names_of", "decode_batch"]


def decode_batch(
    batch: pa.RecordBatch, profile: CountryProfile, max_payload_bytes: int = MAX_PAYLOAD_BYTES
) -> SplitBatch:
    """Decode the payloads of a batch. Each row is independent of the others.

    Args:
        batch: Rows of `raw.RAW_CDR_SCHEMA`, of one country.
        profile: Profile of the country. It lists the country's own formats besides those that every country may send.
        max_payload_bytes: Largest payload accepted; larger ones are rejected as `oversized_payload`.

    Returns:
        Accepted rows as `cdr.DECODED_SCHEMA`, in order. Each rejected row has one of the codes `empty_payload`,
        `oversized_payload`, `invalid_encoding`, `malformed_payload` and `unmapped_value`. `unread` lists the members
        that look like usage and are not read.
    """
    payloads = Payloads.of(batch.column("raw_value"))
    broken = _broken(batch.column("raw_value"), payloads, max_payload_bytes)
    parts: list[_Part] = []
    unread: list[UnreadMember] = []
    faults = [Violation(code, PAYLOAD_FIELD) for code in _CODES]
    open_rows = np.flatnonzero(broken == _KEPT)
    for raw_format in formats_of(profile):
        if not len(open_rows):
            break
        is_claimed = raw_format.claims(payloads.of_rows(open_rows))
        rows, open_rows = open_rows[is_claimed], open_rows[~is_claimed]
        if len(rows):
            texts, is_malformed, is_for_others, unknown, unmapped = raw_format.decode(payloads.of_rows(rows))
            unread += unread_usage(profile.code, raw_format.name, unknown)
            for field, is_unmapped in unmapped.items():
                broken[rows[is_unmapped]] = len(faults)
                faults.append(Violation(Code.UNMAPPED_VALUE, field))
            broken[rows[is_malformed]] = _CODES.index(Code.MALFORMED_PAYLOAD)
            is_read = broken[rows] == _KEPT
            if is_for_others is not None:
                is_read &= ~is_for_others
                open_rows = np.sort(np.concatenate([open_rows, rows[is_for_others]]))
            parts.append(_Part(rows, is_read, {"raw_format": pa.repeat(raw_format.name, len(rows))} | dict(texts)))
    broken[open_rows] = _CODES.index(Code.MALFORMED_PAYLOAD)
    is_kept = broken == _KEPT
    raw = filter_rows(batch, is_kept)
    accepted = pa.RecordBatch.from_arrays([*_columns_of(parts), *raw.columns], schema=DECODED_SCHEMA)
    if raw.num_rows == batch.num_rows:
        return SplitBatch(accepted, no_rejects(), tuple(unread))
    violations = [(faults[index],) for index in broken[~is_kept]]
    return SplitBatch(accepted, dead_letters(filter_rows(batch, ~is_kept), Stage.DECODE, violations), tuple(unread))


_CODES = (Code.EMPTY_PAYLOAD, Code.OVERSIZED_PAYLOAD, Code.INVALID_ENCODING, Code.MALFORMED_PAYLOAD)
_KEPT = -1


class _Part(NamedTuple):
    """Output of the decoder of one format: the rows that it claimed, whether it read each, and their texts."""

    rows: Offsets
    is_read: Mask
    texts: Mapping[str, pa.StringArray]


def _broken(
    values: pa.BinaryArray, payloads: Payloads, max_payload_bytes: int
) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    """Return for each payload the index in _CODES of its fault; _KEPT if it has none."""
    broken = np.full(len(values), _KEPT, np.int8)
    broken[~are_utf8(values)] = _CODES.index(Code.INVALID_ENCODING)
    broken[payloads.lengths == 0] = _CODES.index(Code.EMPTY_PAYLOAD)
    broken[~is_null(values) & (lengths_of(values) > max_payload_bytes)] = _CODES.index(Code.OVERSIZED_PAYLOAD)
    return broken


def _columns_of(parts: Sequence[_Part]) -> list[pa.Array]:
    """Return the columns of `cdr.DecodedFields` for the rows that were read, in the batch's order."""
    if not parts:
        return list(_NO_FIELDS.columns)
    if len(parts) == 1 and parts[0].is_read.all():
        return _fields_of(parts[0])
    rows = np.concatenate([part.rows for part in parts])
    places = np.flatnonzero(np.concatenate([part.is_read for part in parts]))
    order = places[np.argsort(rows[places], kind="stable")]
    # The batches of a country usually mix several formats.
    decoded = concat_batches([pa.RecordBatch.from_arrays(_fields_of(part), schema=_FIELDS) for part in parts])
    absent = pa.nulls(len(order), pa.string())
    return [take_texts(column, order) if column.null_count < len(column) else absent for column in decoded.columns]


def _fields_of(part: _Part) -> list[pa.Array]:
    absent = pa.nulls(len(part.rows), pa.string())
    return [part.texts.get(name, absent) for name in _FIELDS.names]


_FIELDS = pa.schema([(name, pa.string()) for name in DecodedFields.model_fields])
_NO_FIELDS = empty_batch(_FIELDS)


@cache
def column_names_of(profile: CountryProfile) -> frozenset[str]:
    """Return the header lines of the country's formats. A file may begin with one; it is not a record."""
    return frozenset(each.column_names for each in formats_of(profile) if each.column_names)


@dataclass(eq=False)
class DecodeCdrs(StageTransform):
    """Decodes raw messages. It recognizes the format of each message, so one batch may mix formats.

    In: `pa.RecordBatch` of `raw.RAW_CDR_SCHEMA`, one country a batch. Out: StageOutput of accepted batches
    (`cdr.DECODED_SCHEMA`) and dead letters (`dead_letter.DEAD_LETTER_SCHEMA`). Each row goes to exactly one of the two,
    and rows keep their order.

    Attributes:
        profiles: Country profiles by code.
        max_payload_bytes: Largest payload accepted; larger ones are rejected as `oversized_payload`.
    """

    stage = Stage.DECODE

    profiles: Mapping[str, CountryProfile]
    max_payload_bytes: int = MAX_PAYLOAD_BYTES

    def __post_init__(self) -> None:
        """Check the configuration."""
        super().__post_init__()
        if self.max_payload_bytes < 1:
            raise ValueError(f"max_payload_bytes must be at least 1, not {self.max_payload_bytes}")

    def prepare(self) -> Split:
        """Return the function over a batch."""
        decode = partial(decode_batch, max_payload_bytes=self.max_payload_bytes)
        return by_country(decode, self.profiles)
