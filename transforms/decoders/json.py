"""Decoders of JSON records: TN's nested objects, and the flat objects that every country may send.

Plain payloads are decoded in columns, see `plain_json`. msgspec parses the others row by row into typed structs. A
general columnar parser is no option: it would join payloads into one document, where a broken payload can shift its
neighbours, and it would read `5.0` as 5.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from operator import attrgetter
from typing import TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.fields import text_of
from orion_beam.transforms.arrow.texts import Mask, take_texts, to_list, trimmed
from orion_beam.transforms.decoders import Decoded
from orion_beam.transforms.decoders.payloads import Payloads
from orion_beam.transforms.decoders.plain_json import Read, Shape, read_plain

# Type of a field's value. An object or array in its place makes the payload malformed.
Scalar = str | int | float | bool | None


class _TnSubscriber(msgspec.Struct, gc=False):
    imsi: Scalar = None
    msisdn: Scalar = None
    imei: Scalar = None


class _TnNetwork(msgspec.Struct, gc=False):
    cell: Scalar = None
    rat: Scalar = None


class _TnUsage(msgspec.Struct, gc=False):
    up: Scalar = None
    down: Scalar = None


class _TnCdr(msgspec.Struct, gc=False):
    subscriber: _TnSubscriber | None | msgspec.UnsetType = msgspec.UNSET
    network: _TnNetwork | None | msgspec.UnsetType = msgspec.UNSET
    usage: _TnUsage | None | msgspec.UnsetType = msgspec.UNSET
    timestamp: Scalar = None
    event_type: Scalar = None


class _FlatCdr(msgspec.Struct, gc=False):
    event_type: Scalar = None
    imsi: Scalar = None
    msisdn: Scalar = None
    imei: Scalar = None
    cell_id: Scalar = None
    rat: Scalar = None
    timestamp: Scalar = None
    duration: Scalar = None
    called_number: Scalar = None
    call_type: Scalar = None
    bytes_uploaded: Scalar = None
    bytes_downloaded: Scalar = None
    apn: Scalar = None
    destination_number: Scalar = None
    sms_type: Scalar = None
    message_length: Scalar = None
    charging_id: Scalar = None
    subscriber_type: Scalar = None
    lac_tac: Scalar = None
    node_id: Scalar = None
    local_sequence_number: Scalar = None
    record_sequence_number: Scalar = None
    cause_for_record_closing: Scalar = None


# In the order of _FlatCdr's fields. decode_flat merges called_number and destination_number into peer_msisdn.
_FLAT_COLUMNS = (
    "event_type",
    "imsi",
    "msisdn",
    "imei",
    "cell_id",
    "rat",
    "event_time",
    "duration_s",
    "called_number",
    "call_type",
    "bytes_up",
    "bytes_down",
    "apn",
    "destination_number",
    "sms_type",
    "message_length",
    "charging_id",
    "subscriber_type",
    "lac_tac",
    "node_id",
    "local_sequence_number",
    "record_sequence_number",
    "cause_for_record_closing",
)

TN_PATHS = {
    "imsi": "subscriber.imsi",
    "msisdn": "subscriber.msisdn",
    "imei": "subscriber.imei",
    "cell_id": "network.cell",
    "rat": "network.rat",
    "bytes_up": "usage.up",
    "bytes_down": "usage.down",
    "event_time": "timestamp",
    "event_type": "event_type",
}
"""Path of each member of TN's records, by the unified name of the field."""

_Cdr = TypeVar("_Cdr", bound=msgspec.Struct)


def _parse_each(payloads: Payloads, kind: type[_Cdr], nothing: _Cdr) -> tuple[list[_Cdr], Mask]:
    """Parse each payload. Return the objects, with `nothing` in place of a malformed one, and which are malformed."""
    parse = msgspec.json.Decoder(kind).decode
    cdrs: list[_Cdr] = []
    is_malformed = np.zeros(len(payloads), np.bool_)
    texts = to_list(payloads.texts())
    parsed = map(parse, texts)
    while len(cdrs) < len(texts):
        try:
            # If a payload raises, the objects before it are kept, and the next call goes on after it.
            cdrs.extend(parsed)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            cdr = _parse_odd_numbers(texts[len(cdrs)], kind)
            is_malformed[len(cdrs)] = cdr is None
            cdrs.append(nothing if cdr is None else cdr)
    return cdrs, is_malformed


def _parse_odd_numbers(payload: str, kind: type[_Cdr]) -> _Cdr | None:
    """Parse JSON with numbers that no machine type holds (1e400, NaN, thousands of digits). Numbers stay text.

    The rules then reject such a number with the name of its field. Return None if the payload is malformed in itself.
    """
    try:
        fields = json.loads(payload, parse_int=str, parse_float=str, parse_constant=str)
        # A lone surrogate cannot be encoded as UTF-8, so it makes the payload malformed.
        json.dumps(fields, ensure_ascii=False).encode()
        return msgspec.convert(fields, kind)
    except (ValueError, RecursionError):
        return None


def _texts(values: Sequence[Scalar]) -> pa.StringArray:
    """Return scalars as a column of text. A number becomes its digits, as if it were in quotes."""
    try:
        texts = pa.array(values, pa.string())
    except pa.ArrowTypeError:
        # Most values that are not text are whole numbers, for which `str` is enough and fast.
        values = [
            value
            if value is None or (kind := value.__class__) is str
            else str(value)
            if kind is int
            else text_of(value)
            for value in values
        ]
        texts = pa.array(values, pa.string())
    return trimmed(texts)


def _columns(
    cdrs: Sequence[msgspec.Struct], kind: type[msgspec.Struct], names: Sequence[str | None]
) -> dict[str, pa.StringArray]:
    """Return the fields of structs as columns. A field without a name, or with nulls only, gets no column.

    It reads field by field, because one tuple for each struct would keep the garbage collector busy.
    """
    columns = {
        name: list(map(attrgetter(field), cdrs))
        for name, field in zip(names, kind.__struct_fields__, strict=True)
        if name is not None
    }
    return {name: _texts(values) for name, values in columns.items() if values.count(None) < len(values)}


def decode_tn(payloads: Payloads) -> Decoded:
    """Decode TN's nested records. A record without any of the three inner objects is left to the flat format."""
    plain = read_plain(payloads, _TN_SHAPE)
    decoded = _with_others(dict(zip(TN_PATHS, plain.fields, strict=True)), plain, payloads, _parse_tn)
    is_flat = ~plain.has_object & plain.is_plain
    if decoded.is_for_others is not None:
        is_flat |= decoded.is_for_others
    return decoded._replace(is_for_others=is_flat)


def decode_flat(payloads: Payloads) -> Decoded:
    """Decode flat records. The peer is the called number or, for an SMS, the destination number."""
    plain = read_plain(payloads, _FLAT_SHAPE)
    texts = dict(zip(_FLAT_COLUMNS, plain.fields, strict=True))
    decoded = _with_others(texts, plain, payloads, _parse_flat)
    texts = dict(decoded.texts)
    peers = [texts.pop(name) for name in ("called_number", "destination_number") if name in texts]
    return decoded._replace(texts=texts | ({"peer_msisdn": pc.coalesce(*peers)} if peers else {}))


def _with_others(
    texts: Mapping[str, pa.StringArray], plain: Read, payloads: Payloads, parse: Callable[[Payloads], Decoded]
) -> Decoded:
    """Parse the payloads that are not plain and merge them with the plain ones.

    A field that is null in all rows has no column.
    """
    texts = {name: column for name, column in texts.items() if column.null_count < len(column)}
    is_malformed, rows = np.zeros(len(payloads), np.bool_), np.flatnonzero(~plain.is_plain)
    if not len(rows):
        return Decoded(texts, is_malformed, unknown=plain.unknown)
    parsed = parse(payloads.of_rows(rows))
    is_malformed[rows] = parsed.is_malformed
    is_for_others = None
    if parsed.is_for_others is not None:
        is_for_others = np.zeros(len(payloads), np.bool_)
        is_for_others[rows] = parsed.is_for_others
    places = np.arange(len(payloads))
    places[rows] = len(payloads) + np.arange(len(rows))
    joined = {}
    for name in {**texts, **parsed.texts}:
        both = [texts.get(name, _nulls(payloads)), parsed.texts.get(name, _nulls(rows))]
        joined[name] = take_texts(pa.concat_arrays(both), places)
    return Decoded(joined, is_malformed, is_for_others, Counter(plain.unknown) + Counter(parsed.unknown))


def _nulls(rows: Sized) -> pa.StringArray:
    return pa.nulls(len(rows), pa.string())


def _parse_tn(payloads: Payloads) -> Decoded:
    cdrs, is_malformed = _parse_each(payloads, _TnCdr, _MALFORMED_TN)
    texts = (
        _columns([cdr.subscriber or _NO_SUBSCRIBER for cdr in cdrs], _TnSubscriber, ("imsi", "msisdn", "imei"))
        | _columns([cdr.network or _NO_NETWORK for cdr in cdrs], _TnNetwork, ("cell_id", "rat"))
        | _columns([cdr.usage or _NO_USAGE for cdr in cdrs], _TnUsage, ("bytes_up", "bytes_down"))
        | _columns(cdrs, _TnCdr, (None, None, None, "event_time", "event_type"))
    )
    is_flat = np.array([(cdr.subscriber is cdr.network is cdr.usage is msgspec.UNSET) for cdr in cdrs], np.bool_)
    unknown = _unknown(payloads.of_rows(np.flatnonzero(~is_flat & ~is_malformed)[:_MOST_LOOKED_AT]), TN_PATHS.values())
    return Decoded(texts, is_malformed, is_flat, unknown)


def _parse_flat(payloads: Payloads) -> Decoded:
    cdrs, is_malformed = _parse_each(payloads, _FlatCdr, _FlatCdr())
    unknown = _unknown(payloads.of_rows(np.flatnonzero(~is_malformed)[:_MOST_LOOKED_AT]), _FlatCdr.__struct_fields__)
    return Decoded(_columns(cdrs, _FlatCdr, _FLAT_COLUMNS), is_malformed, unknown=unknown)


def _unknown(payloads: Payloads, paths: Iterable[str]) -> Counter[str]:
    """Return the number of payloads by name of a member whose path is not among `paths`."""
    known = set(paths)
    outer = {path.partition(".")[0] for path in known if "." in path}
    found: Counter[str] = Counter()
    for text in to_list(payloads.texts()):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            continue
        names = [name for name in record if name not in outer]
        names += [f"{name}.{inner}" for name in outer if isinstance(record.get(name), dict) for inner in record[name]]
        found.update(set(names) - known)
    return found


_MOST_LOOKED_AT = 32
"""Number of payloads in a batch that are not plain and are searched for unknown members. More would take too long."""


_TN_SHAPE = Shape.of(list(TN_PATHS.values()))
_FLAT_SHAPE = Shape.of(_FlatCdr.__struct_fields__)
_NO_SUBSCRIBER, _NO_NETWORK, _NO_USAGE = _TnSubscriber(), _TnNetwork(), _TnUsage()
_MALFORMED_TN = _TnCdr(None, None, None)


def is_object(payloads: Payloads) -> Mask:
    """Return which payloads begin with `{`, as JSON objects do."""
    return payloads.begin_with(b"{")
