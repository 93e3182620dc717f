"""DecodeCdrs: raw messages of all formats, mixed within a batch, become columns of text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import apache_beam as beam
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
        semicolon.FR_SEMICOLON,
        semicolon.MA_SEMICOLON,
        json.TN_JSON,
        key_value.SN_KEY_VALUE,
        fixed_width.SN_FIXED_WIDTH,
        json.FLAT_JSON,
        pipe_text.PIPE_TEXT,
    )
}
_EVERY_COUNTRY = (RawFormat.FLAT_JSON, RawFormat.PIPE_TEXT)
_TEXT_FIELDS = tuple(name for name in DecodedFields.model_fields if name != "raw_format")
_VIOLATIONS = {code.value: (Violation(code, PAYLOAD_FIELD),) for code in Code}


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
    decoders, claimed_by = _decoders_of(profile)
    text = _text_of(raw["raw_value"])
    readable = raw.select("raw_value", text=text).select("text", _problem(max_payload_bytes), claimed_by)
    problem = readable["problem"]
    rows = problem.is_null().arg_true()
    if len(rows) < raw.height:
        readable = readable[rows]
    decoded, is_malformed = _decode_texts(readable["text"], readable["claimed_by"], decoders)
    if is_malformed.any():
        problem = problem.scatter(rows.filter(is_malformed), Code.MALFORMED_PAYLOAD.value)
        rows, decoded = rows.filter(~is_malformed), decoded.filter(~is_malformed)
    if len(rows) == raw.height:
        return SplitBatch(batch_of(decoded.hstack(raw), DECODED_SCHEMA), no_rejects())
    violations = [_VIOLATIONS[code] for code in problem.drop_nulls()]
    return SplitBatch(
        batch_of(decoded.hstack(raw[rows]), DECODED_SCHEMA),
        dead_letters(raw.filter(problem.is_not_null()), Stage.DECODE, violations),
    )


def _text_of(payload: pl.Series) -> pl.Series:
    """Return payloads as text, without BOM and trailing blanks; null where they are not UTF-8."""
    try:
        text = payload.cast(pl.String)
    except pl.exceptions.ComputeError:
        # polars refuses the whole column for one broken payload, whatever `strict` says: take out those first.
        is_text = pl.Series([_is_utf8(value) for value in payload.to_list()], dtype=pl.Boolean)
        text = pl.select(pl.when(is_text).then(payload)).to_series().cast(pl.String)
    return text.str.strip_prefix("\ufeff").str.strip_chars_end(BLANKS)


def _is_utf8(value: bytes | None) -> bool:
    try:
        return value is not None and value.decode() is not None
    except UnicodeDecodeError:
        return False


@cache
def column_names_of(profile: CountryProfile) -> frozenset[str]:
    """Return the lines that a file of the country may begin with: they name columns and are no record."""
    return frozenset(decoder.column_names for decoder in _decoders_of(profile)[0] if decoder.column_names)


@cache
def _problem(max_payload_bytes: int) -> pl.Expr:
    """Return for a payload that cannot be read as text the code that says why, else null."""
    payload, text = pl.col("raw_value"), pl.col("text")
    return (
        pl.when(payload.bin.size("b") > max_payload_bytes)
        .then(pl.lit(Code.OVERSIZED_PAYLOAD.value))
        .when(payload.is_null() | (text == ""))
        .then(pl.lit(Code.EMPTY_PAYLOAD.value))
        .when(text.is_null())
        .then(pl.lit(Code.INVALID_ENCODING.value))
        .alias("problem")
    )


@cache
def _decoders_of(profile: CountryProfile) -> tuple[list[Decoder], pl.Expr]:
    """Return the country's decoders, and which of them is the first to claim a text (their number: none does)."""
    decoders = [_DECODERS[raw_format] for raw_format in (*profile.formats, *_EVERY_COUNTRY)]
    first = pl.lit(len(decoders), pl.UInt8)
    for index, decoder in reversed(list(enumerate(decoders))):
        first = pl.when(decoder.claims).then(pl.lit(index, pl.UInt8)).otherwise(first)
    return decoders, first.alias("claimed_by")


def _decode_texts(
    texts: pl.Series, claimed_by: pl.Series, decoders: Sequence[Decoder]
) -> tuple[pl.DataFrame, pl.Series]:
    """Return the decoded columns and which payloads are malformed, both in the order of `texts`."""
    parts = [_NOTHING]
    for index in claimed_by.unique():
        rows = (claimed_by == index).arg_true()
        if index == len(decoders):
            part = pl.repeat(True, len(rows), eager=True).to_frame("is_malformed").select(_columns_of(None, ()))
        else:
            part = decoders[index].decode(texts if len(rows) == len(texts) else texts.gather(rows))
            part = part.select(_columns_of(decoders[index].format, tuple(part.columns)))
        parts.append(part.hstack([rows.alias("row")]))
    frame = parts[-1] if len(parts) <= 2 else pl.concat(parts).sort("row")
    return frame.select(*DecodedFields.model_fields), frame["is_malformed"]


@cache
def _columns_of(raw_format: RawFormat | None, present: tuple[str, ...]) -> list[pl.Expr]:
    """Return all text columns of a decoder's frame, trimmed; blank is null, and so is what the format lacks."""
    columns = [pl.lit(raw_format and raw_format.value, pl.String).alias("raw_format")]
    for name in _TEXT_FIELDS:
        text = pl.col(name).str.strip_chars(BLANKS)
        columns.append((pl.when(text != "").then(text) if name in present else pl.lit(None, pl.String)).alias(name))
    return [*columns, pl.col("is_malformed")]


_NOTHING = pl.DataFrame(
    schema=dict.fromkeys(DecodedFields.model_fields, pl.String) | {"is_malformed": pl.Boolean, "row": pl.UInt32}
)


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
