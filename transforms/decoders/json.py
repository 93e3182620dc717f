"""JSON records: TN's nested objects, and the flat object that every country may send.

JSON is the one family of formats that is read row by row: a columnar parser joins payloads into one document, where a
broken one can move its neighbours, and reads `5.0` as 5. msgspec parses each payload alone into typed slots.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TypeVar

import msgspec
import polars as pl

from schemas.fields import text_of
from schemas.raw import RawFormat
from transforms.decoders import TRIM_START, Decoder

# What a field may be: an object or array in its place makes the payload malformed.
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


_NO_SUBSCRIBER, _NO_NETWORK, _NO_USAGE = _TnSubscriber(), _TnNetwork(), _TnUsage()


class _TnCdr(msgspec.Struct, gc=False):
    subscriber: _TnSubscriber | None = None
    network: _TnNetwork | None = None
    usage: _TnUsage | None = None
    timestamp: Scalar = None


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


_FLAT_COLUMNS = {
    "imsi": "imsi",
    "msisdn": "msisdn",
    "imei": "imei",
    "subscriber_type": "subscriber_type",
    "rat": "rat",
    "cell_id": "cell_id",
    "lac_tac": "lac_tac",
    "event_type": "event_type",
    "duration_s": "duration",
    "bytes_up": "bytes_uploaded",
    "bytes_down": "bytes_downloaded",
    "charging_id": "charging_id",
    "call_type": "call_type",
    "apn": "apn",
    "sms_type": "sms_type",
    "message_length": "message_length",
    "event_time": "timestamp",
}

_Cdr = TypeVar("_Cdr")


def _parse_each(
    payloads: pl.Series, parse: Callable[[str], _Cdr], nothing: _Cdr
) -> tuple[list[_Cdr], list[bool]]:
    """Return each payload's object, `nothing` in place of a malformed one, and which are malformed."""
    cdrs, is_malformed = [], [False] * len(payloads)
    for row, payload in enumerate(payloads.to_list()):
        try:
            cdrs.append(parse(payload))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            cdrs.append(nothing)
            is_malformed[row] = True
    return cdrs, is_malformed


def _texts(values: Sequence[Scalar]) -> pl.Series:
    """Return scalars as a column of text: a number is its digits, so that quotes around it make no difference."""
    if all(value.__class__ is str or value is None for value in values):
        return pl.Series(values, dtype=pl.String)
    return pl.Series([value if value.__class__ is str else text_of(value) for value in values], dtype=pl.String)


_parse_tn = msgspec.json.Decoder(_TnCdr).decode
_parse_flat = msgspec.json.Decoder(_FlatCdr).decode


def decode_tn(payloads: pl.Series) -> pl.DataFrame:
    """Read TN's nested records; an absent member's fields are null."""
    cdrs, is_malformed = _parse_each(payloads, _parse_tn, _TnCdr())
    subscribers = [cdr.subscriber or _NO_SUBSCRIBER for cdr in cdrs]
    networks = [cdr.network or _NO_NETWORK for cdr in cdrs]
    usages = [cdr.usage or _NO_USAGE for cdr in cdrs]
    return pl.DataFrame(
        {
            "imsi": _texts([subscriber.imsi for subscriber in subscribers]),
            "msisdn": _texts([subscriber.msisdn for subscriber in subscribers]),
            "imei": _texts([subscriber.imei for subscriber in subscribers]),
            "cell_id": _texts([network.cell for network in networks]),
            "rat": _texts([network.rat for network in networks]),
            "bytes_up": _texts([usage.up for usage in usages]),
            "bytes_down": _texts([usage.down for usage in usages]),
            "event_time": _texts([cdr.timestamp for cdr in cdrs]),
            "is_malformed": is_malformed,
        }
    )


def decode_flat(payloads: pl.Series) -> pl.DataFrame:
    """Read flat records; the peer is the called number or, for an sms, the destination number."""
    cdrs, is_malformed = _parse_each(payloads, _parse_flat, _FlatCdr())
    columns = {name: _texts(list(map(attrgetter(member), cdrs))) for name, member in _FLAT_COLUMNS.items()}
    peers = [cdr.destination_number if cdr.called_number in (None, "") else cdr.called_number for cdr in cdrs]
    return pl.DataFrame(columns | {"peer_msisdn": _texts(peers), "is_malformed": is_malformed})


_IS_OBJECT = pl.col("text").str.contains(TRIM_START + r"\{")

TN_JSON = Decoder(RawFormat.TN_JSON, _IS_OBJECT & pl.col("text").str.contains('"subscriber"', literal=True), decode_tn)
FLAT_JSON = Decoder(RawFormat.FLAT_JSON, _IS_OBJECT, decode_flat)
