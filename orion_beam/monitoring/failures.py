"""Failures of a job, as Flink's REST interface lists them: how often within the last minutes, and for what reason."""

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orion_beam.monitoring.flink_rest import FlinkRest
from orion_beam.telemetry.masking import mask_line

FAILURE_WINDOW_S = 600.0
"""Failures that are older do not count: a job that has run well since then has recovered."""

_LONGEST_REASON = 300
_CAUSED_BY = re.compile(r"^Caused by: ", re.MULTILINE)
_JAVA_FRAMES = re.compile(r"^\t(?:at |\.\.\. )", re.MULTILINE)
_PYTHON_TRACEBACK = "Traceback (most recent call last):"
_PACKAGES = re.compile(r"^(?:[a-z_][\w$]*\.)+(?=[A-Z])")
_ID = re.compile(r"\S*\d\S*")
"""Ids, offsets, ports, instruction numbers: they differ from one failure to the next."""


@dataclass(frozen=True)
class RecentFailures:
    """The failures of a job within the last minutes.

    Attributes:
        times: Failures within `window_s`. Flink lists only the last ones (`web.exception-history-size`, 16).
        is_all: Whether Flink listed all of them; else there may be more.
        same: How many of them have the reason of the last one.
        reason: Reason of the last failure, with numbers and secrets masked; one line.
        last_at_s: Time of the last failure, in seconds since the epoch.
        window_s: Length of the window, in seconds.
    """

    times: int
    is_all: bool
    same: int
    reason: str
    last_at_s: float
    window_s: float = FAILURE_WINDOW_S

    def __str__(self) -> str:
        """Return a line such as `failed 7 times in 10 min for the same reason: TimeoutException: …`."""
        count = f"{'' if self.is_all else 'at least '}{self.times} time{'s' if self.times > 1 else ''}"
        within = f"failed {count} in {self.window_s / 60:.0f} min"
        if self.times == 1:
            return f"{within}: {self.reason}"
        if self.same == self.times:
            return f"{within} for the same reason: {self.reason}"
        return f"{within}, {self.same} of them for the last reason: {self.reason}"


@dataclass(frozen=True)
class FailureReason:
    """Failures of a job for one reason, among the last ones that Flink lists.

    Attributes:
        times: How many of them there are.
        last_at_s: Time of the last one, in seconds since the epoch.
        reason: The reason of the last one, with numbers and secrets masked; one line.
    """

    times: int
    last_at_s: float
    reason: str


def failure_reasons(answer: Mapping[str, Any]) -> list[FailureReason]:
    """Return the reasons in an answer of `/jobs/:jobid/exceptions` (Flink 1.19), the latest one first."""
    entries = sorted(answer["exceptionHistory"]["entries"], key=lambda entry: entry["timestamp"], reverse=True)
    found: dict[str, FailureReason] = {}
    for entry in entries:
        reason = _reason_of(entry)
        kind = _kind_of(reason)
        if kind in found:
            found[kind] = replace(found[kind], times=found[kind].times + 1)
        else:
            found[kind] = FailureReason(1, entry["timestamp"] / 1000, mask_line(reason)[:_LONGEST_REASON])
    return list(found.values())


def recent_failures(
    rest: FlinkRest, job_id: str, window_s: float = FAILURE_WINDOW_S, now_s: float | None = None
) -> RecentFailures | None:
    """Ask a cluster for a job's failures. None: there was none within the window.

    Args:
        rest: Client of the cluster.
        job_id: Flink's id of the job; it may have ended.
        window_s: Seconds back from `now_s`.
        now_s: End of the window, in seconds since the epoch; None for now.

    Raises:
        OSError: The cluster does not answer, or does not know the job.
    """
    return failures_in(rest.get(f"jobs/{job_id}/exceptions"), window_s, time.time() if now_s is None else now_s)


def failures_in(answer: Mapping[str, Any], window_s: float, now_s: float) -> RecentFailures | None:
    """Return the failures within the window that an answer of `/jobs/:jobid/exceptions` (Flink 1.19) lists."""
    history = answer["exceptionHistory"]
    entries = [entry for entry in history["entries"] if entry["timestamp"] / 1000 > now_s - window_s]
    if not entries:
        return None
    last = max(entries, key=lambda entry: entry["timestamp"])
    kinds = Counter(_kind_of(_reason_of(entry)) for entry in entries)
    reason = _reason_of(last)
    return RecentFailures(
        times=len(entries),
        is_all=not (history["truncated"] and len(entries) == len(history["entries"])),
        same=kinds[_kind_of(reason)],
        reason=mask_line(reason)[:_LONGEST_REASON],
        last_at_s=last["timestamp"] / 1000,
        window_s=window_s,
    )


def _reason_of(entry: Mapping[str, Any]) -> str:
    """Return the innermost cause of a failure as one line; for a worker's exception, the line that Python ends with."""
    cause = _CAUSED_BY.split(entry["stacktrace"])[-1]
    message = _JAVA_FRAMES.split(cause, 1)[0]
    _, is_python, traceback = message.rpartition(_PYTHON_TRACEBACK)
    lines = [line for line in (traceback if is_python else message).splitlines() if line.strip()]
    # In a traceback, the lines of the frames are indented; the exception follows.
    line = next((line for line in lines if not is_python or not line[0].isspace()), entry["exceptionName"])
    return _PACKAGES.sub("", line.strip())


def _kind_of(reason: str) -> str:
    """Return what two failures of the same kind have in common: the reason without numbers and ids."""
    return _ID.sub("#", reason)
