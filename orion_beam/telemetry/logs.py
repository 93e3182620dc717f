"""Log lines on standard error: text or JSON, at most a few of each kind, never with a subscriber's number.

Important lines are logged with `extra={"event": …}` and their context (CONTEXT). Workers are separate processes: they
take the format and the job's name from their environment, and write to the standard error of the process that started
them.
"""

import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

from orion_beam.telemetry.masking import mask_line, printable

FORMAT_VARIABLE = "ORION_LOG_FORMAT"
JOB_VARIABLE = "ORION_JOB"
LEVEL_VARIABLE = "ORION_LOG_LEVEL"
"""Environment variables that give format, job's name and level to a command and all processes that it starts."""

CONTEXT = ("event", "stage", "country", "topic", "partition", "offset")
"""What a line may tell about its context; `event` is the kind of line."""

MAX_OF_A_KIND = 10
WINDOW_S = 60.0
"""At most MAX_OF_A_KIND lines of a kind are written in WINDOW_S; the next one says how many were left out."""

_MAX_KINDS = 1_000
_EVENT = re.compile(r"\S+ (WARNING|ERROR|CRITICAL) orion_beam\b")
_TOLD = ("StageFailedError", "DeliveryError")


class LogFormat(StrEnum):
    """How lines are written."""

    TEXT = "text"
    JSON = "json"


def log_format() -> LogFormat:
    """Return the format that the environment names; text if it names none or an unknown one."""
    return LogFormat.JSON if os.environ.get(FORMAT_VARIABLE) == LogFormat.JSON else LogFormat.TEXT


def set_up_logging() -> None:
    """Set up this process to log to standard error, in the environment's format: warnings and worse, or from its level.

    From then on, everything else that Python writes to standard error (prints, warnings, tracebacks, complaints about
    options) has its numbers hidden.
    """
    # The handler writes to the plain stream: the formatters hide numbers in messages, but offsets must stay.
    handler = logging.StreamHandler(_plain_stderr())
    handler.setFormatter(_JsonFormatter() if log_format() is LogFormat.JSON else _TextFormatter())
    handler.addFilter(_is_not_told)
    handler.addFilter(RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.getLevelNamesMapping().get(os.environ.get(LEVEL_VARIABLE, "").upper(), logging.WARNING))
    if sys.stderr is not None:
        sys.stderr = _Hiding(_plain_stderr())


def leave_out_notices() -> None:
    """Leave out Beam's message on import about a missing package that only its TFRecord files need."""
    logging.getLogger().addFilter(_is_not_of_tfrecords)


def _is_not_of_tfrecords(record: logging.LogRecord) -> bool:
    return "crcmod" not in str(record.msg)


class _Hiding:
    """Text stream that hides numbers on their way to another stream."""

    def __init__(self, stream: TextIO) -> None:
        self.plain = stream

    def write(self, text: str) -> int:
        self.plain.write(mask_line(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


def _plain_stderr() -> TextIO:
    return getattr(sys.stderr, "plain", sys.stderr)


def _is_not_told(record: logging.LogRecord) -> bool:
    """Return False for Beam's tracebacks of failures that were already logged, in one line, when they were raised."""
    if not record.name.startswith("apache_beam."):
        return True
    raised = type(record.exc_info[1]).__name__ if record.exc_info else ""
    return raised not in _TOLD and not any(name in _message_of(record) for name in _TOLD)


def _message_of(record: logging.LogRecord) -> str:
    """Return the message, without its values if one of them cannot be shown, as some coders of Beam's cannot.

    At level DEBUG, Beam logs its coders in each bundle, and an error here would fail the bundle.
    """
    try:
        return record.getMessage()
    except Exception as error:
        return f"{record.msg} ({type(error).__name__})"


def say(line: str, level: int = logging.INFO) -> None:
    """Print a line to the user on standard error, without numbers; in the JSON format, as a JSON log line."""
    if log_format() is LogFormat.JSON:
        # Not through a logger: a job that ends silences all loggers, but this line must still appear.
        line = _JsonFormatter().format(logging.LogRecord("orion_beam", level, "", 0, line, None, None))
    else:
        line = printable(mask_line(line))
    print(line, file=_plain_stderr())


class LogFollower:
    """Reads our warnings and errors from a log in the text format while it is being written."""

    def __init__(self, path: Path) -> None:
        """Start at the beginning of the file."""
        self._path = path
        self._seen = 0

    def read(self) -> list[str]:
        """Return the lines that have come since the last call. A half-written line waits for the next call."""
        with self._path.open("rb") as file:
            file.seek(self._seen)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._seen += len(whole)
        return [line for line in whole.decode(errors="replace").splitlines() if _EVENT.match(line)]


class RateLimit(logging.Filter):
    """Limits lines of each kind. The kind is the event or, without one, the text before values are put into it."""

    def __init__(self) -> None:
        """Start with no lines seen."""
        super().__init__()
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a line; the first one of a new window gets the number of lines left out."""
        kind = getattr(record, "event", None) or f"{record.name} {record.msg}"
        now = time.monotonic()
        with self._lock:
            began, lines = self._seen.get(kind, (now, 0))
            if now - began >= WINDOW_S:
                record.suppressed = max(0, lines - MAX_OF_A_KIND)
                began, lines = now, 0
            if kind not in self._seen and len(self._seen) >= _MAX_KINDS:
                # There are as many kinds as places in the code that log, unless values are formatted into texts.
                self._seen.clear()
            self._seen[kind] = (began, lines + 1)
        return lines < MAX_OF_A_KIND


def _fields_of(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    if job := os.environ.get(JOB_VARIABLE):
        yield "job", job
    for name in (*CONTEXT, "suppressed"):
        value = getattr(record, name, None)
        if value not in (None, 0) or (name in ("partition", "offset") and value == 0):
            yield name, value


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _TextFormatter(logging.Formatter):
    """Formats time, level, logger, message, and the context in brackets; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        context = " ".join(f"{name}={value}" for name, value in _fields_of(record))
        line = f"{_time_of(record)} {record.levelname} {record.name}: {printable(mask_line(_message_of(record)))}"
        line += f" [{context}]" if context else ""
        if record.exc_info:
            line += f"\n{printable(mask_line(self.formatException(record.exc_info)))}"
        return line


class _JsonFormatter(logging.Formatter):
    """Formats one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": mask_line(_message_of(record)),
            **dict(_fields_of(record)),
        }
        if record.exc_info:
            line["exception"] = mask_line(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)
