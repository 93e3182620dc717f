r"""Golden-case files of captured records.

`input.txt` holds one record per line, as `orion-beam run` and the golden tests read it. `cases.txt` says what each of
these lines shows. A record cannot be a line when it contains `\n`, is null, or is something that a file reader does not
take for a record (`io.lines`). `messages.avro` (records of `orion.cdr.RawCdr`) therefore holds all records, with key,
headers, source position and Kafka timestamp, for `orion_beam.testing.captured`.
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
RECEIVED_AT_FILE = "received_at.txt"
"""Time at which the records arrived. Version control does not keep the time of modification of `input.txt`."""


def write_cases(captured: Captured, profile: CountryProfile, directory: Path) -> int:
    """Write a country's folder of golden cases, as a whole or not at all.

    `received_at.txt` holds the newest record's Kafka timestamp, for `orion-beam test`. It is also the modification time
    of `input.txt`, for `--received-at modified`.

    Returns:
        How many records cannot be lines and are in `messages.avro` only.

    Raises:
        UserError: the folder exists already, or cannot be written.
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
        (folder / RECEIVED_AT_FILE).write_text(f"{max(stamps).isoformat()}\n", encoding="utf-8")
    return len(payloads) - len(lines)
