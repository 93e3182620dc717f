"""DecodeCdrs: raw messages of all formats, mixed within a batch, become columns of text."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa

from schemas.cdr import DECODED_SCHEMA, DecodedFields
from schemas.codes import Code, Stage
from schemas.country import CountryProfile
from schemas.fields import BLANKS
from schemas.raw import RawFormat
from transforms.batches import SplitBatch, batch_of, frame_of
from transforms.decoders import Decoder, fixed_width, json, key_value, pipe_text, semicolon
from transforms.rejects import PAYLOAD_FIELD, Violation, dead_letters, no_rejects
from transforms.stage import StageOutput, by_country, split_stage

MAX_PAYLOAD_BYTES = 65_536
"""Largest payload that is looked at: a CDR has some hundred bytes, so more is not one."""

_DECODERS: dict[RawFormat, Decoder] = {
    decoder.format: decoder
    for decoder in (
        # JSON shows in the first byte, so it comes before the formats that only look for a separator.
        json.TN_JSON,
        json.FLAT_JSON,
        semicolon.FR_SEMICOLON,
        semicolon.MA_SEMICOLON,
        key_value.SN_KEY_VALUE,
        fixed_width.SN_FIXED_WIDTH,
        pipe_text.PIPE_TEXT,
    )
}
"""By format; of two decoders that claim a payload the first gets it."""

_EVERY_COUNTRY = (RawFormat.FLAT_JSON, RawFormat.PIPE_TEXT)
_TEXT_FIELDS = tuple(name for name in DecodedFields.model_fields if name != "raw_format")
_BROKEN_PAYLOAD = tuple(
    (Violation(code, PAYLOAD_FIELD),)
    for code in (Code.MALFORMED_PAYLOAD, Code.EMPTY_PAYLOAD, Code.OVERSIZED_PAYLOAD, Code.INVALID_ENCODING)
)
_NOTHING_DECODED = pl.DataFrame(
    schema=dict.fromkeys(DecodedFields.model_fields, pl.String) | {"is_malformed": pl.Boolean}
)


def decode_batch(
    batch: pa.RecordBatch, profile: CountryProfile, max_payload_bytes: int = MAX_PAYLOAD_BYTES
) -> SplitBatch:
    """Decode the payloads of a batch, each row for itself.

    Args:
        batch: rows of `schemas.raw.RAW_CDR_SCHEMA`.
        profile: says which formats the country sends, besides those that every country may send.
        max_payload_bytes: larger payloads are rejected as `oversized_payload`.

    Returns:
        Accepted rows as `schemas.cdr.DECODED_SCHEMA`, in order; rejected ones with one of the codes
        `empty_payload`, `oversized_payload`, `invalid_encoding`, `malformed_payload`.
    """
    raw = frame_of(batch)
    decoders, verdict = _verdict(profile, max_payload_bytes)
    readable = raw.select("raw_value", text=_text_of(raw["raw_value"])).select("text", verdict)
    texts, verdicts = readable["text"], readable["verdict"].to_numpy().copy()
    parts, places = [_NOTHING_DECODED], [np.flatnonzero([])]
    for index in np.unique(verdicts[verdicts < len(decoders)]):
        rows = np.flatnonzero(verdicts == index)
        part = decoders[index].decode(texts if len(rows) == len(texts) else texts[rows])
        trimmed, columns = _columns_of(decoders[index].format, tuple(part.columns))
        part = part.with_columns(trimmed).select(columns)
        is_malformed = part["is_malformed"].to_numpy()
        if is_malformed.any():
            verdicts[rows[is_malformed]] = len(decoders)
            rows, part = rows[~is_malformed], part[np.flatnonzero(~is_malformed)]
        parts.append(part)
        places.append(rows)
    rows = np.concatenate(places)
    decoded = pl.concat(parts, rechunk=True) if len(parts) > 2 else parts[-1]
    if len(parts) > 2:
        order = np.argsort(rows, kind="stable")
        decoded, rows = decoded[order], rows[order]
    if len(rows) == raw.height:
        return SplitBatch(batch_of(decoded.hstack(raw), DECODED_SCHEMA), no_rejects())
    rejected = np.flatnonzero(verdicts >= len(decoders))
    violations = [_BROKEN_PAYLOAD[verdict - len(decoders)] for verdict in verdicts[rejected].tolist()]
    return SplitBatch(
        batch_of(decoded.hstack(raw[rows]), DECODED_SCHEMA), dead_letters(raw[rejected], Stage.DECODE, violations)
    )


@cache
def _verdict(profile: CountryProfile, max_payload_bytes: int) -> tuple[list[Decoder], pl.Expr]:
    """Return the country's decoders, and what to do with a payload, as a number.

    It is the index of the first decoder that claims the payload, or their number plus the index in _BROKEN_PAYLOAD.
    """
    sent = {*profile.formats, *_EVERY_COUNTRY}
    decoders = [decoder for raw_format, decoder in _DECODERS.items() if raw_format in sent]
    malformed, empty, oversized, invalid = (
        pl.lit(len(decoders) + index, pl.Int16) for index in range(len(_BROKEN_PAYLOAD))
    )
    payload, text = pl.col("raw_value"), pl.col("text")
    is_oversized = payload.bin.size("b") > max_payload_bytes
    is_empty = payload.is_null() | (text == "")
    verdict = pl.when(is_oversized).then(oversized).when(is_empty).then(empty).when(text.is_null()).then(invalid)
    for index, decoder in enumerate(decoders):
        verdict = verdict.when(decoder.claims).then(pl.lit(index, pl.Int16))
    return decoders, verdict.otherwise(malformed).alias("verdict")


def _text_of(payload: pl.Series) -> pl.Series:
    """Return payloads as text, without BOM and trailing blanks; null where they are not UTF-8."""
    try:
        text = payload.cast(pl.String)
    except pl.exceptions.ComputeError:
        # For one broken payload polars refuses the whole column, whatever `strict` says, and it looks at all bytes of
        # the buffers, referred to or not: the broken ones have to be left behind by a copy.
        is_text = pl.Series(np.array([value is not None and _is_utf8(value) for value in payload.to_list()]))
        emptied = pl.select(pl.when(is_text).then(payload).otherwise(pl.lit(b""))).to_series()
        copied = pl.Series(emptied.to_arrow(compat_level=pl.CompatLevel.oldest())).cast(pl.String)
        text = pl.select(pl.when(is_text).then(copied)).to_series()
    return text.str.strip_prefix("\ufeff").str.strip_chars_end(BLANKS)


def _is_utf8(value: bytes) -> bool:
    try:
        return value.isascii() or bool(value.decode())
    except UnicodeDecodeError:
        return False


@cache
def column_names_of(profile: CountryProfile) -> frozenset[str]:
    """Return the lines that a file of the country may begin with: they name columns and are no record."""
    decoders, _ = _verdict(profile, MAX_PAYLOAD_BYTES)
    return frozenset(decoder.column_names for decoder in decoders if decoder.column_names)


@cache
def _columns_of(raw_format: RawFormat, present: tuple[str, ...]) -> tuple[list[pl.Expr], list[pl.Expr]]:
    """Return what turns a decoder's frame into all text columns: trimming; then nulls for blanks and what it lacks."""
    trimmed = [pl.col(name).str.strip_chars(BLANKS) for name in _TEXT_FIELDS if name in present]
    is_told = "raw_format" in present
    columns = [pl.col("raw_format") if is_told else pl.lit(raw_format.value).alias("raw_format")]
    for name in _TEXT_FIELDS:
        text = pl.when(pl.col(name) != "").then(name) if name in present else pl.lit(None, pl.String)
        columns.append(text.alias(name))
    return trimmed, [*columns, pl.col("is_malformed")]


@dataclass(eq=False)
class DecodeCdrs(beam.PTransform):  # type: ignore[misc]
    """Decodes raw messages: all formats, told apart per message, mixed within one batch.

    In: `pa.RecordBatch` of `schemas.raw.RAW_CDR_SCHEMA`, one country a batch. Out: StageOutput of accepted batches
    (`schemas.cdr.DECODED_SCHEMA`) and dead letters (`schemas.dead_letter.DEAD_LETTER_SCHEMA`). Every row goes to
    exactly one of the two; order holds.

    Attributes:
        profiles: country profiles by code.
        max_payload_bytes: larger payloads are rejected as `oversized_payload`.
    """

    profiles: Mapping[str, CountryProfile]
    max_payload_bytes: int = MAX_PAYLOAD_BYTES

    def __post_init__(self) -> None:
        """Check the configuration."""
        super().__init__()
        if self.max_payload_bytes < 1:
            raise ValueError(f"max_payload_bytes must be at least 1, not {self.max_payload_bytes}")

    @beam.typehints.no_annotations  # type: ignore[untyped-decorator]  # Beam knows no named tuples of outputs
    def expand(self, batches: beam.PCollection) -> StageOutput:
        """Split each batch into decoded rows and dead letters."""
        decode = partial(decode_batch, max_payload_bytes=self.max_payload_bytes)
        return split_stage(batches, Stage.DECODE, partial(by_country, decode, self.profiles))
