"""The raw formats: one renderer each, from columns of text to payloads."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from orion_beam.generator.times import Spelling
from schemas.raw import RawFormat

FIXED_WIDTHS = {
    "imsi": 15, "msisdn": 16, "imei": 15, "cell_id": 10, "rat": 2, "bytes_up": 12, "bytes_down": 12, "event_time": 20,
}  # fmt: skip


@dataclass(frozen=True)
class Rendering:
    """How to write one raw format.

    Attributes:
        fields: the fields that the format has, named as in `schemas.cdr.DecodedFields`.
        payload: expression over columns of these names (text, null is absent) that makes the payload.
        spellings: of event times; 64 entries, one dominating, each as likely; empty where there is no event time.
        is_json: whether texts are JSON strings, so that quotes and control characters in them are escaped.
    """

    fields: tuple[str, ...]
    payload: pl.Expr
    spellings: tuple[Spelling, ...]
    is_json: bool = False


def _mostly(usual: Spelling, *others: Spelling) -> tuple[Spelling, ...]:
    return (usual,) * (64 - len(others)) + others


def _joined(separator: str, fields: tuple[str, ...]) -> pl.Expr:
    return pl.concat_str([pl.col(name).fill_null("") for name in fields], separator=separator)


def _member(name: str, column: str, before: str = ",") -> pl.Expr:
    """Return `,"name":"text"`, null where the column is null."""
    return pl.concat_str(pl.lit(f'{before}"{name}":"'), column, pl.lit('"'))


def _bare_member(name: str, column: str, quote: str, before: str = ",") -> pl.Expr:
    """Return `,"name":digits` with the row's kind of quote around the digits, null where the column is null."""
    return pl.concat_str(pl.lit(f'{before}"{name}":'), quote, column, quote)


def _fr_semicolon() -> Rendering:
    fields = ("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")
    return Rendering(
        fields, _joined(";", fields), _mostly(Spelling.ISO, Spelling.ISO_OFFSET, Spelling.SPACE_LOCAL, Spelling.BASIC)
    )


def _ma_semicolon() -> Rendering:
    fields = ("imsi", "msisdn", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")
    # Columns that are empty at the end are not written.
    payload = _joined(";", fields).str.strip_chars_end(";")
    return Rendering(fields, payload, _mostly(Spelling.ISO, Spelling.COMPACT_LOCAL, Spelling.EPOCH_SECONDS))


def _tn_json() -> Rendering:
    payload = pl.concat_str(
        pl.lit('{"subscriber":{'),
        _member("imsi", "imsi", before=""),
        _member("msisdn", "msisdn"),
        _member("imei", "imei"),
        pl.lit('},"network":{'),
        _member("cell", "cell_id", before=""),
        _member("rat", "rat"),
        pl.lit('},"usage":{'),
        _bare_member("up", "bytes_up", "count_quote", before=""),
        _bare_member("down", "bytes_down", "count_quote"),
        pl.lit("}"),
        _bare_member("timestamp", "event_time", "time_quote"),
        pl.lit("}"),
        ignore_nulls=True,
    )
    others = (Spelling.ISO, Spelling.ISO_SHORT_OFFSET, Spelling.EPOCH_SECONDS, Spelling.EPOCH_MILLIS)
    fields = ("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")
    return Rendering(fields, payload, _mostly(Spelling.ISO_MILLIS, *others), is_json=True)


def _sn_key_value() -> Rendering:
    keys = {
        "IMSI": "imsi", "MSISDN": "msisdn", "IMEI": "imei", "CELL": "cell_id", "RAT": "rat", "UP": "bytes_up",
        "DOWN": "bytes_down", "TS": "event_time",
    }  # fmt: skip

    def pair(key: str) -> pl.Expr:
        return pl.concat_str(pl.lit(f"{key}="), keys[key])

    def pairs(*order: str) -> pl.Expr:
        return pl.concat_str([pair(key) for key in order], separator="|", ignore_nulls=True)

    # Two generations of the mediation software write the pairs in two orders.
    payload = (
        pl.when(pl.col("key").str.ends_with("7"))
        .then(pairs("TS", "MSISDN", "IMSI", "IMEI", "DOWN", "UP", "RAT", "CELL"))
        .otherwise(pairs(*keys))
    )
    others = (Spelling.BASIC, Spelling.EPOCH_SECONDS, Spelling.COMPACT_LOCAL)
    return Rendering(tuple(keys.values()), payload, _mostly(Spelling.ISO, *others))


def _sn_fixed_width() -> Rendering:
    def column(name: str, width: int) -> pl.Expr:
        text = pl.col(name)
        # An absent count is blank; any other is padded with zeros.
        padded = text.str.zfill(width) if name in ("bytes_up", "bytes_down") else text
        return padded.fill_null("").str.pad_end(width)

    payload = pl.concat_str([column(name, width) for name, width in FIXED_WIDTHS.items()])
    spellings = _mostly(Spelling.ISO, Spelling.BASIC, Spelling.COMPACT_LOCAL, Spelling.EPOCH_SECONDS)
    return Rendering(tuple(FIXED_WIDTHS), payload, spellings)


def _flat_json() -> Rendering:
    texts = {
        "imsi": "imsi", "msisdn": "msisdn", "imei": "imei", "cell_id": "cell_id", "rat": "rat", "lac_tac": "lac_tac",
        "subscriber_type": "subscriber_type", "charging_id": "charging_id", "call_type": "call_type", "apn": "apn",
        "sms_type": "sms_type",
    }  # fmt: skip
    counts = {
        "duration": "duration_s", "bytes_uploaded": "bytes_up", "bytes_downloaded": "bytes_down",
        "message_length": "message_length",
    }  # fmt: skip
    is_sms = pl.col("sms_type").is_not_null()
    peer = pl.when(is_sms).then(_member("destination_number", "peer_msisdn")).otherwise(
        _member("called_number", "peer_msisdn")
    )  # fmt: skip
    payload = pl.concat_str(
        _member("event_type", "event_type", before="{"),
        *[_member(name, column) for name, column in texts.items()],
        peer,
        *[_bare_member(name, column, "count_quote") for name, column in counts.items()],
        _bare_member("timestamp", "event_time", "time_quote"),
        pl.lit(',"country":"'),
        "country",
        pl.lit('"}'),
        ignore_nulls=True,
    )
    fields = ("event_type", *texts.values(), "peer_msisdn", *counts.values(), "event_time")
    others = (Spelling.ISO_MILLIS, Spelling.ISO_OFFSET, Spelling.EPOCH_SECONDS, Spelling.EPOCH_MILLIS)
    return Rendering(fields, payload, _mostly(Spelling.ISO, *others), is_json=True)


def _pipe_text() -> Rendering:
    fields = ("imsi", "msisdn", "event_type", "duration_s", "bytes_up", "bytes_down")
    return Rendering(fields, _joined("|", fields), ())


_MAKERS: dict[RawFormat, Callable[[], Rendering]] = {
    RawFormat.FR_SEMICOLON: _fr_semicolon,
    RawFormat.TN_JSON: _tn_json,
    RawFormat.MA_SEMICOLON: _ma_semicolon,
    RawFormat.SN_KEY_VALUE: _sn_key_value,
    RawFormat.SN_FIXED_WIDTH: _sn_fixed_width,
    RawFormat.FLAT_JSON: _flat_json,
    RawFormat.PIPE_TEXT: _pipe_text,
}
RENDERINGS: dict[RawFormat, Rendering] = {raw_format: make() for raw_format, make in _MAKERS.items()}
"""How each raw format is written."""
