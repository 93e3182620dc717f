"""Trial of a file of unknown records: which of the known formats reads them, and as what."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from orion_beam.errors import UserError
from orion_beam.schemas.raw_formats.sources import UNIFIED_FIELDS
from orion_beam.text_files.toml_file import toml_files
from orion_beam.transforms.arrow.texts import to_list
from orion_beam.transforms.decoders import RawFormat
from orion_beam.transforms.decoders.declared import compiled_format
from orion_beam.transforms.decoders.payloads import Payloads, are_utf8
from orion_beam.transforms.decoders.registry import all_formats, load_format
from orion_beam.transforms.reference.file_content import encoding_of, open_whole
from orion_beam.workspace import Workspace

_IMSI = re.compile(r"[0-9]{14,15}")

MOST_LINES = 2_000
"""Number of lines of a file that are looked at."""
_MOST_BYTES = 1 << 22


class Trial(NamedTuple):
    """What one format makes of some records.

    Attributes:
        format: Name of the format.
        read: Number of records that the format claims and reads without a fault, and that hold an IMSI.
        rows: Texts of the first of these records that are not null, by unified field.
    """

    format: str
    read: int
    rows: list[dict[str, str]]


def lines_of_file(path: Path) -> tuple[list[bytes], str | None]:
    """Return the first lines of a file that are not blank, as UTF-8 without a byte order mark. It may be compressed.

    The second value is the file's encoding if that is one of 16 or 32 bits, else None.

    Raises:
        UserError: The file cannot be read, or holds no line.
    """
    try:
        with open_whole(str(path)) as file:
            content = file.read(_MOST_BYTES)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    if (encoding := encoding_of(content[:1024])) is not None:
        content = content.decode(encoding, errors="replace").encode()
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if len(content) == _MOST_BYTES:
        # The last line may be cut off.
        lines = lines[:-1]
    lines = [line for line in lines if line.strip()][:MOST_LINES]
    if not lines:
        raise UserError(f"{path}: holds no line; give a file of one record a line")
    return lines, encoding


def known_formats(workspace: Workspace | None) -> dict[str, RawFormat]:
    """Return all formats that ship, and those of the workspace, by name.

    Raises:
        UserError: A declaration of the workspace breaks a rule. The message names file, line and field.
    """
    formats = dict(all_formats())
    for path in toml_files(workspace.formats) if workspace else ():
        try:
            formats[path.stem] = compiled_format(load_format(path))
        except (OSError, ValueError) as error:
            raise UserError(f"format {path}: {error}") from None
    return formats


def trials(lines: Sequence[bytes], formats: Mapping[str, RawFormat], rows: int) -> list[Trial]:
    """Return what each format makes of lines, for the formats that read one; the one that reads most comes first.

    Args:
        lines: Lines of a file; a header line is one that no format reads.
        formats: Formats by name.
        rows: Number of records to show of each format.
    """
    column = pa.array(lines, pa.binary())
    payloads = Payloads.of(column.filter(pa.array(are_utf8(column))))
    payloads = payloads.of_rows(np.flatnonzero(payloads.lengths > 0))
    found = [_trial(each, payloads, rows) for each in formats.values()]
    return sorted((each for each in found if each.read), key=lambda each: -each.read)


def _trial(raw_format: RawFormat, payloads: Payloads, rows: int) -> Trial:
    claimed = payloads.of_rows(np.flatnonzero(raw_format.claims(payloads)))
    if not len(claimed):
        return Trial(raw_format.name, 0, [])
    decoded = raw_format.decode(claimed)
    texts = {field: to_list(decoded.texts[field]) for field in UNIFIED_FIELDS if field in decoded.texts}
    faults = [decoded.is_malformed, *decoded.unmapped.values()]
    if decoded.is_for_others is not None:
        faults.append(decoded.is_for_others)
    is_faulty = np.logical_or.reduce(faults)
    # Any column may come to stand in the IMSI's place, so it must look like one.
    read = [
        row
        for row, imsi in enumerate(texts.get("imsi", ()))
        if not is_faulty[row] and imsi is not None and _IMSI.fullmatch(imsi)
    ]
    shown = [{field: column[row] for field, column in texts.items() if column[row] is not None} for row in read[:rows]]
    return Trial(raw_format.name, len(read), shown)
