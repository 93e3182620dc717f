"""The stage `pseudonymise`: subscribers' numbers become other numbers of the same form, by a keyed hash."""

import hmac
import stat
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import phonenumbers
import pyarrow as pa
from numba import types
from pydantic import BaseModel, Field

from orion_beam.custom_stages.contract import WorkspacePath, custom_stage, split
from orion_beam.custom_stages.shipped.hmac_sha256 import Digests, KeyedHash
from orion_beam.errors import UserError
from orion_beam.transforms.arrow.compiled import (
    INT64,
    INT64S,
    TEXTS,
    Bytes,
    Offsets,
    Texts,
    column_of,
    compiled,
    copy_bytes,
    is_valid,
    texts_of,
)
from orion_beam.transforms.arrow.texts import ZERO, are_digits, is_null, lengths_of, text_offsets
from orion_beam.transforms.rules.networks import home_networks
from orion_beam.transforms.stage.batches import SplitBatch, batch_of, columns_of

__all__ = ["PseudonymOptions", "Pseudonymise"]

_PLUS = ord("+")
_MCC_DIGITS, _TAC_DIGITS, _IMEI_DIGITS = 3, 8, 15
_LEAST_DIGITS = 7
"""Fewest digits of a peer's number that may be a subscriber's. Shorter ones are services."""
_DIGITS_A_WORD = 15
_LEAST_KEY_BYTES = 16
_DIGESTS = types.Array(types.uint64, 2, "C", readonly=True)


class PseudonymOptions(BaseModel):
    """Options of `pseudonymise`.

    Attributes:
        fields: Fields that it changes.
        key_file: File with the key, 16 bytes or more: `(umask 077; openssl rand -hex 32 > KEY)`. Blanks at its ends do
            not count. Workers read the file as well, so it must be there on each of them.
    """

    fields: tuple[Literal["imsi", "msisdn", "imei", "peer_msisdn"], ...] = Field(
        default=("imsi", "msisdn", "imei", "peer_msisdn"), min_length=1
    )
    key_file: WorkspacePath


@custom_stage(after=("normalize", "enrich"))
class Pseudonymise:
    """Changes the digits of numbers by their HMAC-SHA-256.

    What the digits before them say stays: MCC and MNC of an IMSI, the calling code of a number, the type (TAC) of an
    IMEI. Lengths stay, and the check digit of an IMEI is right. With the same key, a number has the same pseudonym in
    every record, and as `msisdn` the same as `peer_msisdn`. Nobody can find the number without the key. Two numbers
    may get the same pseudonym: among a million numbers with ten digits to change about fifty pairs do.

    It runs behind `normalize` or `enrich`, where numbers have one form. Dead letters hold the original records.
    """

    def __init__(self, options: PseudonymOptions) -> None:
        """Read the key.

        Raises:
            UserError: The file cannot be read, everybody may read it, or its key is too short or one byte repeated.
        """
        path = Path(options.key_file)
        try:
            key = path.read_bytes().strip()
            is_public = path.stat().st_mode & stat.S_IROTH
        except OSError as error:
            raise UserError(f"options.key_file: {options.key_file}: {error.strerror}") from None
        if len(key) < _LEAST_KEY_BYTES:
            raise UserError(
                f"options.key_file: {options.key_file} has {len(key)} bytes, and a key has {_LEAST_KEY_BYTES} or more:"
                " `openssl rand -hex 32` makes one"
            )
        if len(set(key)) == 1:
            raise UserError(
                f"options.key_file: {options.key_file} has the same byte {len(key)} times, which anybody can guess:"
                " `openssl rand -hex 32` makes a key"
            )
        if is_public:
            raise UserError(
                f"options.key_file: every user of this machine may read {options.key_file}: `chmod o-r` mends it, or"
                " `defaultMode: 0440` for a secret of Kubernetes"
            )
        self._fields = options.fields
        self._imsi, self._imei, self._number = (
            KeyedHash(hmac.digest(key, kind, "sha256")) for kind in (b"imsi", b"imei", b"number")
        )

    def __call__(self, batch: pa.RecordBatch) -> SplitBatch:
        """Return all rows, accepted, with the fields changed."""
        columns = columns_of(batch)
        change = {"imsi": self._imsis, "imei": self._imeis}
        columns |= {name: change.get(name, self._numbers)(columns[name]) for name in self._fields}
        return split(batch_of(columns, batch.schema))

    def _imsis(self, imsis: pa.StringArray) -> pa.StringArray:
        kept = _MCC_DIGITS + lengths_of(home_networks(imsis).mnc).astype(np.int64)
        return _column(imsis, _changed(texts_of(imsis), self._imsi.of(imsis), kept, _ALL, 0, False))

    def _imeis(self, imeis: pa.StringArray) -> pa.StringArray:
        kept = np.full(len(imeis), _TAC_DIGITS, np.int64)
        data = _changed(texts_of(imeis), self._imei.of(imeis), kept, _IMEI_DIGITS - 1, 0, False)
        return _column(imeis, _with_check_digits(texts_of(imeis), data))

    def _numbers(self, numbers: pa.StringArray) -> pa.StringArray:
        kept = _calling_codes(texts_of(numbers), _calling_code_digits())
        return _column(numbers, _changed(texts_of(numbers), self._number.of(numbers), kept, _ALL, _LEAST_DIGITS, True))


_ALL = 2**31


def _column(column: pa.StringArray, data: Bytes) -> pa.StringArray:
    """Return a column with other bytes of the same lengths."""
    offsets = text_offsets(column)
    validity = np.packbits(~is_null(column), bitorder="little") if column.null_count else None
    return column_of(offsets - offsets[0], data, validity, column.null_count)


@cache
def _calling_code_digits() -> npt.NDArray[np.int64]:
    """Return the length of the calling code (ITU-T E.164) by the first three digits of a number; 0 if there is none."""
    digits = np.zeros(1000, np.int64)
    for code in map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE):
        step = 10 ** (3 - len(code))
        digits[int(code) * step : (int(code) + 1) * step] = len(code)
    return digits


@compiled(TEXTS, INT64S)
def _calling_codes(numbers: Texts, digits: npt.NDArray[np.int64]) -> Offsets:
    """Return the length of `+` and calling code at the start of each number; 0 if it has no `+`."""
    lengths = np.zeros(len(numbers.offsets) - 1, np.int64)
    for row in range(len(lengths)):
        start, end = numbers.offsets[row], numbers.offsets[row + 1]
        if end - start > 4 and numbers.data[start] == _PLUS and are_digits(numbers.data, start + 1, start + 4):
            code = 0
            for place in range(start + 1, start + 4):
                code = 10 * code + numbers.data[place] - ZERO
            lengths[row] = 1 + digits[code]
    return lengths


@compiled(TEXTS, _DIGESTS, INT64S, INT64, INT64, types.boolean)
def _changed(texts: Texts, digests: Digests, kept: Offsets, until: int, at_least: int, is_first_above_0: bool) -> Bytes:
    """Return the bytes of all texts, with digits changed.

    Args:
        texts: Texts.
        digests: Four words a row, from which the new digits come.
        kept: Number of first bytes of each text that stay.
        until: Place in a text from which bytes stay.
        at_least: Texts with fewer digits stay.
        is_first_above_0: Whether the first new digit is none of 0.
    """
    begin, rows = texts.offsets[0], len(texts.offsets) - 1
    data = np.empty(texts.offsets[rows] - begin, np.uint8)
    copy_bytes(data, 0, texts.data, begin, len(data))
    for row in range(rows):
        start, end = texts.offsets[row] - begin, texts.offsets[row + 1] - begin
        if not is_valid(texts, row):
            continue
        count = 0
        for place in range(start, end):
            count += 48 <= data[place] <= 57
        if count < at_least:
            continue
        changed, word = 0, np.uint64(0)
        for place in range(start + kept[row], min(end, start + until)):
            if not 48 <= data[place] <= 57:
                continue
            if changed % _DIGITS_A_WORD == 0:
                word = digests[row, (changed // _DIGITS_A_WORD) & 3]
            # The divisors are constants because a division by a variable takes ten times as long.
            if changed == 0 and is_first_above_0:
                digit, word = np.uint64(1) + word % np.uint64(9), word // np.uint64(9)
            else:
                digit, word = word % np.uint64(10), word // np.uint64(10)
            data[place] = np.uint8(ZERO) + np.uint8(digit)
            changed += 1
    return data


@compiled(TEXTS, types.Array(types.uint8, 1, "C"))
def _with_check_digits(imeis: Texts, data: Bytes) -> Bytes:
    """Set the last digit of each IMEI of 15 digits to its Luhn check digit (3GPP TS 23.003 annex B)."""
    begin = imeis.offsets[0]
    for row in range(len(imeis.offsets) - 1):
        start = imeis.offsets[row] - begin
        if imeis.offsets[row + 1] - begin - start != _IMEI_DIGITS:
            continue
        total = 0
        for place in range(_IMEI_DIGITS - 1):
            doubled = (int(data[start + place]) - ZERO) * (1 + place % 2)
            total += doubled - 9 * (doubled > 9)
        data[start + _IMEI_DIGITS - 1] = ZERO + (10 - total % 10) % 10
    return data
