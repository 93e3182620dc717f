r"""Lines of files: where they end, and which of them are no records.

A line ends at `\n` alone and may hold any other byte. In files, and only there, some lines are no records: blank ones,
headers and trailers. What is taken for one could be no record of any format, whatever follows in it.
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

_BLOCK_BYTES = 1 << 20

_HEADER_WORDS = "h|hd|hdr|header|bof"
_TRAILER_WORDS = "t|tr|trl|trlr|tlr|trailer|ft|ftr|footer|eof"
# No letter may follow the word, nor the sign of a KEY=VALUE pair; digits may, in columns of fixed width.
_MARK = re.compile(rf'"?(?:(?P<header>{_HEADER_WORDS})|(?P<trailer>{_TRAILER_WORDS}))"?(?![a-z="])', re.IGNORECASE)
_SEPARATOR_LINE = re.compile(r'"?sep *=.?"?', re.IGNORECASE)
_IMSI = re.compile(r"[0-9]{15}")
_COUNT = re.compile(r"[0-9]{1,12}")


def lines_of(file: IO[bytes], block_bytes: int = _BLOCK_BYTES) -> Iterator[list[bytes]]:
    r"""Yield the lines of a file in lists; they are split at `\n` alone, and may hold any other byte."""
    rest: list[bytes] = []
    while block := file.read(block_bytes):
        first, *others = block.split(b"\n")
        rest.append(first)
        if others:
            yield [b"".join(rest), *others[:-1]]
            rest = [others[-1]]
    # Bytes after the last newline are a line of their own; nothing after it is none.
    if last := b"".join(rest):
        yield [last]


def kinds_of(lines: pa.BinaryArray, profile: CountryProfile) -> dict[int, str]:
    """Return what those lines are that are no records, by their place; see `kind_of`."""
    may_be = mask_of(pc.match_substring_regex(lines, _beginnings(profile), ignore_case=True))
    kinds = ((place, kind_of(lines[place].as_py(), profile)) for place in np.flatnonzero(may_be).tolist())
    return {place: kind for place, kind in kinds if kind is not None}


@cache
def _beginnings(profile: CountryProfile) -> str:
    """Return how the lines begin that may be no records: as hardly another line does."""
    names = [re.match(r"(\w+)(\W)", line) for line in column_names_of(profile)]
    columns = [rf'{found[1]}[ \t"]*{re.escape(found[2])}' for found in names if found]
    words = rf"(?:{_HEADER_WORDS}|{_TRAILER_WORDS})(?:[^a-z=]|$)"
    return rf'^(?:\xEF\xBB\xBF)?[ \t\r"]*(?:{"|".join(["$", "sep *=", words, *columns])})'


def kind_of(line: bytes, profile: CountryProfile) -> str | None:
    """Return BLANK_LINES, HEADER_LINES or TRAILER_LINES for a line of a country's file; None for a record.

    A header names the columns of one of the country's formats (in letters of either case, in quotes or not), is
    `sep=;`, or begins with H, HDR or the like; a trailer with T, TRL or the like. Where a record could begin so, or an
    IMSI may stand in it, it is none of them.
    """
    text = line.decode("utf-8-sig", errors="replace").strip(BLANKS)
    if not text:
        return BLANK_LINES
    if _SEPARATOR_LINE.fullmatch(text) or _names_of(text) in column_names_of(profile):
        return HEADER_LINES
    mark = _MARK.match(text)
    if mark is None or _IMSI.search(text) or "=" in text.partition("|")[0] or _has_all_columns(text, profile):
        return None
    return HEADER_LINES if mark["header"] else TRAILER_LINES


def _has_all_columns(text: str, profile: CountryProfile) -> bool:
    """Say whether a line has as many columns as a record of a format: then it is one, however it begins."""
    counted = ((names, separator) for names in column_names_of(profile) for separator in ";|" if separator in names)
    return any(text.count(separator) >= names.count(separator) for names, separator in counted)


def _names_of(text: str) -> str:
    names = re.sub(r'[" \t]', "", text.lower())
    return names[:-1] if names.endswith((";", "|")) else names


def count_in(trailer: bytes) -> int | None:
    """Return the number that a trailer has, if it has but one."""
    numbers = [part for part in re.split(r'[;|,"\s]+', trailer.decode(errors="replace")) if _COUNT.fullmatch(part)]
    return int(numbers[0]) if len(numbers) == 1 else None


def records_among(lines: Iterable[bytes], profile: CountryProfile) -> list[bytes]:
    """Return the lines of a country's file that are records."""
    return [line for line in lines if kind_of(line, profile) is None]
