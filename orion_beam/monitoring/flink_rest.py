"""Client of a Flink cluster's REST API (Flink 1.19)."""

import json
import time
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError

_TIMEOUT_S = 10.0
_CANCEL_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.2
ENDED_STATES = {"CANCELED", "FAILED", "FINISHED"}
_NOT_NOW = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
"""Statuses of a JobManager that elects a leader, or of a proxy in front of one that starts."""


class FlinkRest:
    """Client of one cluster.

    Args:
        address: Address such as `http://jobmanager:8081`, as Beam's `--flink_master` has it.
    """

    def __init__(self, address: str) -> None:
        """Keep the address; nothing is asked yet."""
        self._address = address.rstrip("/")

    def get(self, path: str, wait_s: float = 0.0) -> Any:
        """Return the JSON answer for a path, such as `overview`.

        Args:
            path: Path below the API's version.
            wait_s: Seconds for which to retry while the cluster refuses or breaks connections or has no leader.

        Raises:
            OSError: the cluster does not answer, or refuses.
        """
        return self._ask("GET", path, wait_s)

    def cancel(self, job_id: str) -> None:
        """Cancel a job and wait until it has ended.

        Raises:
            OSError: the cluster does not answer, or refuses.
            TimeoutError: the job has not ended within a minute.
        """
        self._ask("PATCH", f"jobs/{job_id}?mode=cancel", _TIMEOUT_S)
        give_up = time.monotonic() + _CANCEL_TIMEOUT_S
        while self.get(f"jobs/{job_id}", _TIMEOUT_S)["state"] not in ENDED_STATES:
            if time.monotonic() > give_up:
                raise TimeoutError(f"job {job_id} has not ended {_CANCEL_TIMEOUT_S:.0f} s after it was cancelled")
            time.sleep(_LOOK_EVERY_S)

    def _ask(self, method: str, path: str, wait_s: float) -> Any:
        request = urllib.request.Request(f"{self._address}/v1/{path}", method=method)
        give_up = time.monotonic() + wait_s
        while True:
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                    return json.load(response)
            except (OSError, HTTPException) as error:
                if not _passes(error) or time.monotonic() >= give_up:
                    raise error if isinstance(error, OSError) else ConnectionError(repr(error)) from None
                if isinstance(error, HTTPError):
                    error.close()
            time.sleep(_LOOK_EVERY_S)


def _passes(error: OSError | HTTPException) -> bool:
    """Return whether an error passes by itself, as those of a cluster that starts or elects a leader do."""
    match error:
        case HTTPError():
            return error.code in _NOT_NOW
        case URLError():
            return isinstance(error.reason, ConnectionError | TimeoutError)
    # The connection broke in the middle of an answer.
    return isinstance(error, ConnectionError | TimeoutError | HTTPException)
