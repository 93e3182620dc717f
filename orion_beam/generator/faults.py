"""Alterations of good CDRs: each makes a record that breaks one known code, or an odd but good one.

An alteration works on columns of the rows concerned: on a field before the record is written, on the payload
afterwards, or on both. A row gets at most one, so the code that it breaks is known.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl

from orion_beam.generator.draws import Index
from orion_beam.generator.formats import Rendering, Spoil
from orion_beam.schemas.codes import Code

OVERSIZED_BYTES = 70 * 1024
"""More than the largest payload that is decoded, less than the largest message that brokers take."""

_USUAL_WEIGHT = 8
_JSON_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_COUNTS = ("duration_s", "bytes_up", "bytes_down", "message_length")
_ARABIC_INDIC = dict(zip("0123456789", "٠١٢٣٤٥٦٧٨٩", strict=True))
_MINUTE_MS = 60_000
_TIME_CHARS = len("2026-06-01T10:00:00Z")
_YEAR_MS = 525_960 * _MINUTE_MS


def _all(_: Rendering) -> bool:
    return True


def _json(rendering: Rendering) -> bool:
    return rendering.is_json


def _not_fixed(rendering: Rendering) -> bool:
    return not rendering.is_fixed_width


def _delimited(rendering: Rendering) -> bool:
    return not rendering.is_json and not rendering.is_fixed_width


@dataclass(frozen=True)
class Alteration:
    """One way in which a record differs from a good one.

    Attributes:
        name: Unique name, for people.
        code: The one code that the altered record breaks. None: the record is only odd.
        field: The field that `text` or `spoil` concerns; formats without it are left alone. None: every format.
        text: Text that replaces the field's.
        spoil: Expression that changes the field's good text. Null where the field is absent.
        payload: Expression that changes the whole payload.
        bad_bytes: Bytes, in hexadecimal, that replace the payload's eleventh byte.
        breakage: Name in `Rendering.breakages` of the expression that changes the whole payload.
        formats: Test for the formats that it applies to.
        fits_lines: Whether a file with one record per line can hold the record without changing its outcome.
        needs_gap: Whether the country's clocks must skip an hour each year.
        weight: How often it is chosen, relative to others.
    """

    name: str
    code: Code | None
    field: str | None = None
    text: str | None = None
    spoil: Spoil | None = None
    payload: Spoil | None = None
    bad_bytes: str | None = None
    breakage: str | None = None
    formats: Callable[[Rendering], bool] = _all
    fits_lines: bool = True
    needs_gap: bool = False
    weight: int = _USUAL_WEIGHT

    def suits(self, rendering: Rendering) -> bool:
        """Return whether records of this format can be altered in this way."""
        if self.field is not None and self.field not in rendering.fields:
            return False
        text = self.text or ""
        width = rendering.widths.get(self.field or "", len(text))
        mark = rendering.decimal_mark
        is_count = mark is not None and re.fullmatch(rf"[0-9]+{re.escape(mark)}[0-9]+", text, re.ASCII) is not None
        is_possible = self.breakage is None or self.breakage in rendering.breakages
        if self.spoil is not None and self.field == "event_time":
            is_possible &= rendering.widths.get("event_time", _TIME_CHARS) >= _TIME_CHARS
        return is_possible and self.formats(rendering) and len(text) <= width and not is_count


def _only(text: str) -> Spoil:
    return lambda _: pl.lit(text)


def _absent(_: pl.Expr) -> pl.Expr:
    return pl.lit(None, pl.String)


def _in_other_digits(text: pl.Expr) -> pl.Expr:
    return text.str.replace_many(_ARABIC_INDIC)


def _with_inside(text: str, at: int = 6) -> Spoil:
    """Return a spoil that overwrites as many characters with `text`, so that widths stay."""
    return lambda good: good.str.head(at) + pl.lit(text) + good.str.slice(at + len(text))


def _ahead(ms: int) -> Spoil:
    return lambda _: pl.from_epoch(pl.col("arrival_ms") + ms, time_unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%SZ")


def _each(
    code: Code | None, field: str, texts: Sequence[str], formats: Callable[[Rendering], bool]
) -> list[Alteration]:
    return [
        Alteration(f"{field} {text!r}", code, field, text=text, formats=formats, fits_lines="\n" not in text)
        for text in texts
    ]


def _payload_faults() -> list[Alteration]:
    malformed, encoding, empty = Code.MALFORMED_PAYLOAD, Code.INVALID_ENCODING, Code.EMPTY_PAYLOAD
    return [
        Alteration("JSON cut off", malformed, payload=lambda p: p.str.head(p.str.len_chars() // 2), formats=_json),
        Alteration("start of JSON", malformed, payload=lambda _: pl.lit('{"event_type":"data","imsi":"')),
        Alteration("trailer of a file", malformed, payload=_only("### TRAILER RECORDS 000017 ###")),
        *[Alteration(name, malformed, breakage=name) for name in ("columns missing", "columns too many", "cut off")],
        Alteration("byte 0xFF", encoding, bad_bytes="ff"),
        Alteration("UTF-8 sequence cut off", encoding, bad_bytes="c328"),
        Alteration("surrogate in UTF-8", encoding, bad_bytes="eda080"),
        Alteration(
            "payload too large", Code.OVERSIZED_PAYLOAD, payload=lambda p: p + pl.lit("x" * OVERSIZED_BYTES), weight=1
        ),
        Alteration("no value", empty, payload=_absent, fits_lines=False),
        # An empty line may also be the end of a file.
        Alteration("empty value", empty, payload=_only(""), fits_lines=False),
        Alteration("blanks", empty, payload=_only("  \t ")),
    ]  # fmt: skip


def _missing_fields() -> list[Alteration]:
    code = Code.MISSING_FIELD
    return [
        Alteration("imsi empty", code, "imsi", text=""),
        Alteration("imsi blank", code, "imsi", text="  "),
        Alteration("imsi absent", code, "imsi", spoil=_absent),
        Alteration("msisdn empty", code, "msisdn", text=""),
        Alteration("msisdn absent", code, "msisdn", spoil=_absent),
        # Blanks at the end of a fixed-width record may be trimmed: the record is then cut off, its field not empty.
        Alteration("event_time empty", code, "event_time", text="", formats=_not_fixed),
        Alteration("event_time absent", code, "event_time", spoil=_absent, formats=_not_fixed),
    ]


def _identity_faults() -> list[Alteration]:
    imsi, msisdn, imei = Code.INVALID_IMSI, Code.INVALID_MSISDN, Code.INVALID_IMEI
    return [
        Alteration("imsi too short", imsi, "imsi", spoil=lambda good: good.str.head(13)),
        Alteration("imsi too long", imsi, "imsi", spoil=lambda good: good + pl.lit("0"), formats=_not_fixed),
        Alteration("imsi with letters", imsi, "imsi", spoil=_with_inside("O")),
        Alteration("imsi with blank", imsi, "imsi", spoil=_with_inside(" ")),
        Alteration("imsi with quote", imsi, "imsi", spoil=_with_inside('"')),
        Alteration("imsi with NUL", imsi, "imsi", spoil=_with_inside("\0")),
        Alteration("imsi with newline", imsi, "imsi", spoil=_with_inside("\n"), fits_lines=False),
        Alteration("imsi in other digits", imsi, "imsi", spoil=_in_other_digits),
        Alteration("imsi in a spreadsheet", imsi, "imsi", text="2.08011E+14"),
        Alteration(
            "byte order mark, imsi with letters", imsi, "imsi", spoil=_with_inside("X"),
            payload=lambda p: pl.lit("\ufeff") + p,
        ),
        Alteration("msisdn too short", msisdn, "msisdn", spoil=lambda m: m.str.strip_chars_start("+0").str.head(9)),
        Alteration("msisdn too long", msisdn, "msisdn", text="3361234567890123"),
        Alteration("msisdn with letters", msisdn, "msisdn", spoil=_with_inside("x")),
        Alteration("msisdn with newline", msisdn, "msisdn", spoil=_with_inside("\n"), fits_lines=False),
        Alteration("msisdn in other digits", msisdn, "msisdn", spoil=_in_other_digits),
        *_each(msisdn, "msisdn", ["anonymous", "++33612345678", "3.36123E+10", "+", "+33 6 12 34 56"], _all),
        *_each(imei, "imei", ["3539111012345", "35391110ABCDEF9", "3.53911E+14", "353911-10-12345", "unknown"], _all),
        *_each(imei, "imei", ["35391110123456789", "٣٥٣٩١١١٠١٢٣٤٥٦٧", "35391110\x001234567"], _not_fixed),
    ]  # fmt: skip


def _time_faults() -> list[Alteration]:
    code, name = Code.INVALID_TIMESTAMP, "event_time"
    wrong = [
        "2026-02-30T12:00:00Z", "2025-02-29 08:15:00", "2026-13-01T00:00:00Z", "2026-00-10T00:00:00Z",
        "2026-01-01T24:30:00Z", "2026-01-01T12:60:00Z", "2016-12-31T23:59:60Z", "20260230T120000Z", "20261345000000",
        "31/12/2025 10:00", "Jan 1 2026 10:00", "yesterday", "NaN", "1.76E+09", "-1735689600", "46023.5", "0",
        "2026-01-01", "٢٠٢٦-٠١-٠١T١٠:٠٠:٠٠Z",
    ]  # fmt: skip
    return [
        *_each(code, name, wrong, _all),
        *_each(code, name, ["2026-01-01T10:00:00+25:00", "2026-01-01T10:00:00 Europe/Paris"], _not_fixed),
        Alteration("event_time that clocks skip", code, name, spoil=lambda _: pl.col("skipped_time"), needs_gap=True),
        # In a file, the arrival time is when the file was written, whatever `start` was.
        Alteration(
            "61 minutes ahead", Code.FUTURE_TIMESTAMP, name, spoil=_ahead(61 * _MINUTE_MS), fits_lines=False, weight=32
        ),
        Alteration("30 years ahead", Code.FUTURE_TIMESTAMP, name, spoil=_ahead(30 * _YEAR_MS), weight=32),
    ]


def _value_faults() -> list[Alteration]:
    number, rat, event_type = Code.INVALID_NUMBER, Code.UNKNOWN_RAT, Code.UNKNOWN_EVENT_TYPE
    return [
        *_each(number, "bytes_up", ["-1", "1.5", "1e3", "NaN", "0x1F", "1 234", "١٢٣٤"], _all),
        *_each(number, "bytes_down", ["-4096", "5.0", "1E+12", "Infinity", "1,234", "12 kB", "+5"], _all),
        *_each(number, "bytes_down", ["9223372036854775808", "18446744073709551616", "12\n34"], _not_fixed),
        *_each(number, "duration_s", ["-30", "00:02:17", "1e2", "NaN"], _all),
        *_each(number, "message_length", ["-1", "160 chars"], _all),
        *_each(rat, "rat", ["03", "04", "99", "6G"], _all),
        *_each(rat, "rat", ["WIMAX", "WLAN", "Virtual", "LTE!"], _not_fixed),
        *_each(event_type, "event_type", ["mms", "video", "VOIX", "data usage", "", "0"], _all),
    ]


def _oddities() -> list[Alteration]:
    return [
        Alteration("carriage return", None, payload=lambda p: p + pl.lit("\r"), weight=32),
        Alteration("byte order mark", None, payload=lambda p: pl.lit("\ufeff") + p),
        Alteration("blanks after", None, payload=lambda p: p + pl.lit(" \t ")),
        Alteration("leading zeros", None, "bytes_up", spoil=lambda good: pl.lit("0000") + good, formats=_delimited),
        Alteration("cell with newline", None, "cell_id", spoil=_with_inside("\n"), fits_lines=False),
        Alteration("cell with quote", None, "cell_id", spoil=_with_inside('"')),
        Alteration("cell with NUL", None, "cell_id", spoil=_with_inside("\0")),
        Alteration("cell with accents", None, "cell_id", spoil=_with_inside("É")),
        Alteration("no cell", None, "cell_id", text=""),
        Alteration("no RAT", None, "rat", text=""),
    ]


FAULTS = (*_payload_faults(), *_missing_fields(), *_identity_faults(), *_time_faults(), *_value_faults())
"""Alterations that make a record bad; they cover every code but internal_error."""
ODDITIES = tuple(_oddities())
"""Alterations that make a good record harder to read."""
ALTERATIONS = (*FAULTS, *ODDITIES)
"""All alterations; a row's alteration is a position in this tuple."""

_TEXTS = pl.Series([alteration.text for alteration in ALTERATIONS], dtype=pl.String)
_CODES = pl.Series([alteration.code for alteration in ALTERATIONS], dtype=pl.String)


@cache
def choices(rendering: Rendering, *, faulty: bool, fits_lines: bool, has_gap: bool) -> Index:
    """Return the alterations of a format, as positions in ALTERATIONS, each repeated as its weight says."""
    wanted = FAULTS if faulty else ODDITIES
    return np.array(
        [
            position
            for position, alteration in enumerate(ALTERATIONS)
            if alteration in wanted
            and alteration.suits(rendering)
            and (alteration.fits_lines or not fits_lines)
            and (has_gap or not alteration.needs_gap)
            for _ in range(alteration.weight)
        ],
        dtype=np.int64,
    )


def expected_codes(alterations: Index) -> pl.Series:
    """Return the code that each alteration breaks; null for an oddity."""
    return _CODES.gather(pl.Series(alterations))


def _applied(column: pl.Expr, spoils: Sequence[tuple[int, Spoil]]) -> pl.Expr:
    altered = column
    for position, spoil in spoils:
        concerned = pl.col("alteration") == position
        # The spoil sees null in all other rows, so that 70 KiB are appended to one row and not to all.
        altered = pl.when(concerned).then(spoil(pl.when(concerned).then(column))).otherwise(altered)
    return altered


def alter_fields(frame: pl.DataFrame, rendering: Rendering) -> pl.DataFrame:
    """Return rows with their fields altered; in JSON formats, texts are escaped and texts that are no number quoted.

    Args:
        frame: The fields of rows of one format as text, `alteration` (position in ALTERATIONS), and two columns that
            alterations read: `arrival_ms` and `skipped_time` (null when the country's clocks skip no hour).
        rendering: The format of all rows.
    """
    present = [(position, ALTERATIONS[position]) for position in frame["alteration"].unique().sort()]
    texts = _TEXTS.gather(frame["alteration"])
    altered = {}
    for field in {alteration.field for _, alteration in present if alteration.field is not None}:
        of_field = [(position, alteration) for position, alteration in present if alteration.field == field]
        # Most faults replace the field's text, so one look-up serves all of them.
        replaced = pl.col("alteration").is_in([p for p, alteration in of_field if alteration.text is not None])
        column = pl.when(replaced).then(texts).otherwise(pl.col(field))
        spoils = [(p, alteration.spoil) for p, alteration in of_field if alteration.spoil is not None]
        altered[field] = _applied(column, spoils)
    frame = frame.with_columns(**altered)
    return _as_json(frame) if rendering.is_json else frame


def _as_json(frame: pl.DataFrame) -> pl.DataFrame:
    counts = [name for name in _COUNTS if name in frame.columns]
    # Null means absent, so nothing needs quotes.
    is_number = pl.all_horizontal(pl.col(name).str.contains(_JSON_NUMBER).fill_null(True) for name in counts)
    is_time_number = pl.col("event_time").str.contains(_JSON_NUMBER)
    texts = [name for name, kind in frame.schema.items() if kind == pl.String and not name.endswith("_quote")]
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\0": "\\u0000"}
    return frame.with_columns(
        pl.when(is_number).then("count_quote").otherwise(pl.lit('"')).alias("count_quote"),
        pl.when(is_time_number).then("time_quote").otherwise(pl.lit('"')).alias("time_quote"),
        *[pl.col(name).str.replace_many(escapes) for name in texts],
    )


def alter_payloads(frame: pl.DataFrame, rendering: Rendering) -> pl.Series:
    """Return the payloads (Binary; null: no value) of rows with `payload` (text), `alteration` and their fields.

    All rows are of the format `rendering`.
    """
    found = [(position, ALTERATIONS[position]) for position in frame["alteration"].unique().sort()]
    texts = [(position, alteration.payload) for position, alteration in found if alteration.payload is not None]
    texts += [(position, rendering.breakages[each.breakage]) for position, each in found if each.breakage is not None]
    bad_bytes = [(position, alteration.bad_bytes) for position, alteration in found if alteration.bad_bytes is not None]
    payload = _applied(pl.col("payload"), texts).cast(pl.Binary)
    if bad_bytes:
        # Text cannot hold these bytes, but hexadecimal text can, with two characters per byte.
        code = pl.col("payload").cast(pl.Binary).bin.encode("hex")
        for position, replacement in bad_bytes:
            spoilt = (code.str.head(20) + pl.lit(replacement) + code.str.slice(22)).str.decode("hex")
            payload = pl.when(pl.col("alteration") == position).then(spoilt).otherwise(payload)
    return frame.select(payload=payload).to_series()
