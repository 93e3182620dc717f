r"""Golden-case files of captured records.

`input.txt` holds a record a line, as `orion-beam run` and the golden tests read it, and `cases.txt` what each line
shows. A line ends at `\n`, so a record that holds one is no line; nor is one that is null, or what a file would not
take for a record (`io.lines`). `messages.avro` (records of `orion.cdr.RawCdr`) therefore holds them all: with key,
headers, place and Kafka timestamp, for `orion_beam.testing.captured`.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import fastavro
import numpy as np

from orion_beam.capture.slice import Captured
from orion_beam.errors import UserError
from orion_beam.io.lines import kind_of
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.derive import avro_schema
from orion_beam.schemas.raw import RawCdr
from orion_beam.transforms.arrow.texts import to_list

INPUT_FILE, CASES_FILE, MESSAGES_FILE = "input.txt", "cases.txt", "messages.avro"


def write_cases(captured: Captured, profile: CountryProfile, directory: Path) -> int:
    """Write a country's folder of golden cases; it is there as a whole, or not at all.

    `input.txt` gets the newest record's Kafka timestamp as its time of modification, which stands in for it when it is
    read with `--received-at modified`.

    Returns:
        How many records are no line, and in `messages.avro` alone.

    Raises:
        UserError: the folder is there already, or cannot be written.
    """
    folder = directory / profile.code.lower()
    if folder.exists():
        raise UserError(f"{folder} is there already: capture into another directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=directory))
    except OSError as error:
        raise UserError(f"--output {directory}: {error.strerror}") from None
    try:
        left_out = _write(captured, profile, draft)
        draft.chmod(0o755)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return left_out


def _write(captured: Captured, profile: CountryProfile, folder: Path) -> int:
    payloads = to_list(captured.records.column("raw_value"))
    is_line = [
        payload is not None and b"\n" not in payload and kind_of(payload, profile) is None for payload in payloads
    ]
    lines = np.flatnonzero(is_line)
    (folder / INPUT_FILE).write_bytes(b"".join(payloads[row] + b"\n" for row in lines))
    (folder / CASES_FILE).write_text("".join(f"{captured.cases[row]}\n" for row in lines), encoding="utf-8")
    with (folder / MESSAGES_FILE).open("wb") as file:
        fastavro.writer(file, json.loads(avro_schema(RawCdr)), captured.records.to_pylist())
    stamps = [stamp for stamp in captured.records.column("source_timestamp").to_pylist() if stamp is not None]
    if stamps:
        os.utime(folder / INPUT_FILE, (max(stamps).timestamp(),) * 2)
    return len(payloads) - len(lines)
