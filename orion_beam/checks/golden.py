"""Golden cases: raw records, and what must become of each when the job of the workspace runs over them.

A country's folder holds `input.txt` (a record a line), `cases.txt` (what each line shows), `expected_final.jsonl` and
`expected_dead_letters.jsonl`. A file `received_at.txt` holds the time at which the records arrived, in ISO 8601;
without it they arrive at RECEIVED_AT.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import fastavro

from orion_beam.capture.cases import CASES_FILE, INPUT_FILE, RECEIVED_AT_FILE
from orion_beam.checks.results import CheckResult, CheckState
from orion_beam.config import FileSink, FileSource, JobConfig
from orion_beam.errors import UserError
from orion_beam.io.files import DEAD_LETTER_FILE, FINAL_FILE
from orion_beam.runners.direct import run_direct
from orion_beam.telemetry.masking import mask_field
from orion_beam.text_files.text_file import shown_path

__all__ = ["EXPECTED", "RECEIVED_AT", "check_golden", "golden_lines"]

RECEIVED_AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
EXPECTED = {FINAL_FILE: "expected_final.jsonl", DEAD_LETTER_FILE: "expected_dead_letters.jsonl"}
"""Files of expected outputs, by the job's output file."""

_KINDS = {FINAL_FILE: "CDR", DEAD_LETTER_FILE: "dead letter"}
_OF_EVERY_RUN = frozenset(
    {"source_topic", "source_partition", "source_timestamp", "schema_version", "failed_at", "version", "model_version"}
)
"""Fields that depend on the run or the release, or are the same for every line."""
_OF_DATA = frozenset({"reference_version"})

_Lines = dict[int, dict[str, Any]]
"""Expected or actual records by line number of the input."""


def golden_lines(path: Path, cases: Sequence[str], left_out: Collection[str] = frozenset()) -> list[str]:
    """Return the records of an output file by line number, as JSON lines without what is null, empty or left out."""
    with path.open("rb") as file:
        return [_json(record) for record in _records(fastavro.reader(file), cases, left_out)]


def _records(found: Iterator[Any], cases: Sequence[str], left_out: Collection[str]) -> Iterator[dict[str, Any]]:
    for record in sorted(found, key=lambda each: each["source_offset"]):
        row = record.pop("source_offset")
        kept = {
            name: _readable(value)
            for name, value in record.items()
            if value not in (None, []) and name not in _OF_EVERY_RUN and name not in left_out
        }
        yield {"line": row + 1, "case": cases[row] if row < len(cases) else ""} | kept


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def _readable(value: Any) -> Any:
    """Return a value as JSON has it: bytes as text, with escapes where they are not UTF-8."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {name: _readable(each) for name, each in value.items()}
    return value.isoformat() if isinstance(value, date) else value


def check_golden(
    folders: Mapping[str, Path], job: Callable[[FileSource, FileSink], JobConfig], *, update: bool
) -> dict[str, list[CheckResult]]:
    """Run the golden cases of all countries in one job, and compare what becomes of each line.

    Args:
        folders: Folders of golden cases by country.
        job: Makes the job of a source and a sink.
        update: Whether to rewrite the expected files. Cases that were different then pass, and say what was different.

    Returns:
        Results by country, one for each case.

    Raises:
        UserError: A file cannot be read, or the job is not valid.
    """
    with tempfile.TemporaryDirectory(prefix="orion-beam-golden-") as directory:
        inputs = {code: _input(folder, Path(directory, f"{code}.txt")) for code, folder in folders.items()}
        output = Path(directory, "out")
        output.mkdir()
        run_direct(job(FileSource(inputs=tuple(inputs.items())), FileSink(directory=output)))
        found = {name: _by_input(output / name) for name in EXPECTED}
        return {
            code: _compared(code, folder, {name: found[name].get(str(inputs[code]), []) for name in EXPECTED}, update)
            for code, folder in folders.items()
        }


def _input(folder: Path, copy: Path) -> Path:
    """Copy a country's records to a file whose time of modification is the time at which they arrived."""
    try:
        shutil.copyfile(folder / INPUT_FILE, copy)
    except OSError as error:
        raise UserError(f"{error.filename or folder / INPUT_FILE}: {error.strerror or error}") from None
    try:
        text = (folder / RECEIVED_AT_FILE).read_text(encoding="utf-8").strip()
        received = datetime.fromisoformat(text)
    except FileNotFoundError:
        received = RECEIVED_AT
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / RECEIVED_AT_FILE}: {error}; write a time as 2026-06-01T12:00:00Z") from None
    os.utime(copy, ((received if received.tzinfo else received.replace(tzinfo=UTC)).timestamp(),) * 2)
    return copy


def _by_input(path: Path) -> dict[str, list[Any]]:
    """Return the records of an output file by input file."""
    found: dict[str, list[Any]] = {}
    with path.open("rb") as file:
        records: Iterator[Any] = iter(fastavro.reader(file))
        for record in records:
            found.setdefault(record["source_topic"], []).append(record)
    return found


def _compared(code: str, folder: Path, found: Mapping[str, list[Any]], update: bool) -> list[CheckResult]:
    cases = _text_of(folder / CASES_FILE).splitlines()
    actual = {name: _by_line(_records(iter(records), cases, _OF_DATA)) for name, records in found.items()}
    expected = {name: _by_line(_read(folder / file)) for name, file in EXPECTED.items()}
    lines = sorted({line for side in (actual, expected) for records in side.values() for line in records})
    results = []
    for line in lines:
        before = {name: records[line] for name, records in expected.items() if line in records}
        after = {name: records[line] for name, records in actual.items() if line in records}
        problems = tuple(_differences(before, after))
        state = CheckState.FAILED if problems and not update else CheckState.PASSED
        case = next(iter(after.values()), next(iter(before.values()), {})).get("case", "")
        results.append(
            CheckResult("golden", f"{code} line {line}: {case}", state, problems, shown_path(folder / INPUT_FILE), line)
        )
    if update:
        for name, file in EXPECTED.items():
            text = "".join(f"{_json(record)}\n" for record in actual[name].values())
            if actual[name] != expected[name] or not (folder / file).exists():
                try:
                    draft = folder / f".{file}.part"
                    draft.write_text(text, encoding="utf-8")
                    draft.replace(folder / file)
                except OSError as error:
                    raise UserError(f"{shown_path(folder / file)}: {error.strerror}") from None
    return results


def _by_line(records: Iterator[dict[str, Any]]) -> _Lines:
    return {record["line"]: record for record in records}


def _text_of(path: Path) -> str:
    """Return the text of a file; an empty one if it does not exist.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserError(f"{shown_path(path)}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{shown_path(path)}: is no UTF-8 text") from None


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file of expected outputs; none if it does not exist yet."""
    for number, line in enumerate(_text_of(path).splitlines(), 1):
        try:
            record = json.loads(line)
            record["line"] = int(record["line"])
            codes = record.get("codes", [])
            if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
                raise TypeError("codes is a list of texts")
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise UserError(
                f"{shown_path(path)}:{number}: is no JSON object with a line; `orion-beam test --update` writes it"
            ) from None
        yield {name: value for name, value in record.items() if name not in _OF_DATA}


def _differences(before: Mapping[str, dict[str, Any]], after: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Yield what is different about one line. Numbers of subscribers are masked."""
    if before.keys() != after.keys():
        yield f"expected {_described(before)}, and it is {_described(after)}"
        return
    for name in before:
        old, new = before[name], after[name]
        for field in dict.fromkeys((*old, *new)):
            if old.get(field) != new.get(field):
                yield f"{_KINDS[name]}: {field}: expected {_shown(field, old)}, and it is {_shown(field, new)}"


def _described(outcomes: Mapping[str, dict[str, Any]]) -> str:
    if not outcomes:
        return "nothing"
    return " and ".join(
        f"a {_KINDS[name]}" + (f" ({', '.join(dict.fromkeys(record['codes']))})" if "codes" in record else "")
        for name, record in outcomes.items()
    )


def _shown(field: str, record: Mapping[str, Any]) -> str:
    return mask_field(field, json.dumps(record[field], ensure_ascii=False)) if field in record else "null"
