r"""Lines of files: where they end, and which of them are not records.

A line ends at `\n` only and may hold any other byte. Blank lines, headers and trailers are not records; they occur in
files only, not in Kafka. A line counts as a header or trailer only if it cannot be a record of any format.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.fields import BLANKS
from orion_beam.telemetry.run_counters import BLANK_LINES, HEADER_LINES, TRAILER_LINES
from orion_beam.transforms.arrow.texts import mask_of
from orion_beam.transforms.decode import column_names_of
from orion_beam.transforms.decoders.layouts import Separated
from orion_beam.transforms.decoders.registry import formats_of
from orion_beam.transforms.reference.file_content import DamagedFileError

_BLOCK_BYTES = 1 << 20
LONGEST_LINE_BYTES = 64 << 20
"""No record is nearly as long: a file with such a line is none of CDRs, and would fill the memory."""

_HEADER_WORDS = "h|hd|hdr|header|bof"
_TRAILER_WORDS = "t|tr|trl|trlr|tlr|trailer|ft|ftr|footer|eof"
# Neither a letter nor the `=` of a KEY=VALUE pair may follow the word. A digit may: columns of fixed width touch.
_MARK = re.compile(rf'"?(?:(?P<header>{_HEADER_WORDS})|(?P<trailer>{_TRAILER_WORDS}))"?(?![a-z="])', re.IGNORECASE)
_SEPARATOR_LINE = re.compile(r'"?sep *=.?"?', re.IGNORECASE)
_IMSI = re.compile(r"[0-9]{15}")
_COUNT = re.compile(r"[0-9]{1,12}")


def lines_of(file: IO[bytes], block_bytes: int = _BLOCK_BYTES) -> Iterator[list[bytes]]:
    r"""Yield the lines of a file, a list per block read; a line ends at `\n` only.

    Raises:
        DamagedFileError: A line has more than LONGEST_LINE_BYTES, or the file cannot be read.
    """
    rest: list[bytes] = []
    while block := file.read(block_bytes):
        first, *others = block.split(b"\n")
        rest.append(first)
        if len(rest) * block_bytes > LONGEST_LINE_BYTES:
            raise DamagedFileError(f"a line has more than {LONGEST_LINE_BYTES >> 20} MiB: it is no file of CDRs")
        if others:
            yield [b"".join(rest), *others[:-1]]
            rest = [others[-1]]
    # Bytes after the last newline are a line; the empty text after it is not.
    if last := b"".join(rest):
        yield [last]


def chunks_of(file: IO[bytes], most_lines: int) -> Iterator[list[bytes]]:
    """Yield the lines of a file in lists of `most_lines`, or of fewer if they are long; see `lines_of`."""
    chunk: list[bytes] = []
    blocks = 0
    for lines in lines_of(file):
        chunk += lines
        blocks += 1
        while len(chunk) >= most_lines:
            yield chunk[:most_lines]
            chunk, blocks = chunk[most_lines:], 0
        if blocks * _BLOCK_BYTES > LONGEST_LINE_BYTES:
            yield chunk
            chunk, blocks = [], 0
    if chunk:
        yield chunk


def kinds_of(lines: pa.BinaryArray, profile: CountryProfile) -> dict[int, str]:
    """Return the kind of each line that is not a record, by its index in `lines`; see `kind_of`."""
    may_be = mask_of(pc.match_substring_regex(lines, _beginnings(profile), ignore_case=True))
    kinds = ((place, kind_of(lines[place].as_py(), profile)) for place in np.flatnonzero(may_be).tolist())
    return {place: kind for place, kind in kinds if kind is not None}


@cache
def _beginnings(profile: CountryProfile) -> str:
    """Return a regular expression that matches every line that may not be a record, and hardly any record."""
    names = [re.match(r"(\w+)(\W)", line) for line in column_names_of(profile)]
    columns = [rf'{found[1]}[ \t"]*{re.escape(found[2])}' for found in names if found]
    words = rf"(?:{_HEADER_WORDS}|{_TRAILER_WORDS})(?:[^a-z=]|$)"
    return rf'^(?:\xEF\xBB\xBF)?[ \t\r"]*(?:{"|".join(["$", "sep *=", words, *columns])})'


def kind_of(line: bytes, profile: CountryProfile) -> str | None:
    """Return BLANK_LINES, HEADER_LINES or TRAILER_LINES for a line of a country's file; None for a record.

    A header names the columns of one of the country's formats (in any case, with or without quotes), is `sep=;`, or
    begins with H, HDR or a similar word. A trailer begins with T, TRL or a similar word. A line that begins with such a
    word is still a record if it could be one: it has 15 digits in a row (an IMSI), a KEY=VALUE pair, or all columns of
    a format.
    """
    text = line.decode("utf-8-sig", errors="replace").strip(BLANKS)
    if not text:
        return BLANK_LINES
    if _SEPARATOR_LINE.fullmatch(text) or _names_of(text) in _headers(profile):
        return HEADER_LINES
    mark = _MARK.match(text)
    if mark is None or _IMSI.search(text) or "=" in text.partition("|")[0] or _has_all_columns(text, profile):
        return None
    return HEADER_LINES if mark["header"] else TRAILER_LINES


def _has_all_columns(text: str, profile: CountryProfile) -> bool:
    """Return whether a line has as many columns as a record of a format; then it is a record, however it begins."""
    layouts = (each.layout for each in formats_of(profile) if isinstance(each.layout, Separated))
    return any(text.count(layout.separator) >= len(layout.fields) - 1 for layout in layouts)


@cache
def _headers(profile: CountryProfile) -> frozenset[str]:
    return frozenset(map(_names_of, column_names_of(profile)))


def _names_of(text: str) -> str:
    """Return a line of names in one writing: small letters, without quotes, blanks, and a separator at the end."""
    return re.sub(r"[^\w\s]?$", "", re.sub(r'[" \t]', "", text.lower()))


def count_in(trailer: bytes) -> int | None:
    """Return the number in a trailer; None if it has no number or several."""
    numbers = [part for part in re.split(r'[;|,"\s]+', trailer.decode(errors="replace")) if _COUNT.fullmatch(part)]
    return int(numbers[0]) if len(numbers) == 1 else None


def records_among(lines: Iterable[bytes], profile: CountryProfile) -> list[bytes]:
    """Return the lines of a country's file that are records."""
    return [line for line in lines if kind_of(line, profile) is None]
