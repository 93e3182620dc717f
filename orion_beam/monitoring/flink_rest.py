"""A Flink cluster over its REST API (Flink 1.19)."""

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
_ENDED = {"CANCELED", "FAILED", "FINISHED"}
_NOT_NOW = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
"""What a JobManager that elects a leader says, or a proxy before one that starts."""


class FlinkRest:
    """What a cluster says, and takes.

    Args:
        address: such as `http://jobmanager:8081`, Beam's `--flink_master`.
    """

    def __init__(self, address: str) -> None:
        """Keep the address; nothing is asked yet."""
        self._address = address.rstrip("/")

    def get(self, path: str, wait_s: float = 0.0) -> Any:
        """Return what is found at a path, such as `overview`.

        Args:
            path: under the version of the API.
            wait_s: how long to ask again while the cluster does not listen, breaks the connection or has no leader.

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
        while self.get(f"jobs/{job_id}", _TIMEOUT_S)["state"] not in _ENDED:
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
    """Return whether an error is one of a cluster that starts, or elects a leader."""
    match error:
        case HTTPError():
            return error.code in _NOT_NOW
        case URLError():
            return isinstance(error.reason, ConnectionError | TimeoutError)
    # A connection that was broken in the middle of an answer.
    return isinstance(error, ConnectionError | TimeoutError | HTTPException)
