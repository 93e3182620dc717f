"""A Flink cluster over its REST API (Flink 1.19)."""

import json
import time
import urllib.request
from typing import Any

_TIMEOUT_S = 10.0
_CANCEL_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.2
_ENDED = {"CANCELED", "FAILED", "FINISHED"}


class FlinkRest:
    """What a cluster says, and takes.

    Args:
        address: such as `http://jobmanager:8081`, Beam's `--flink_master`.
    """

    def __init__(self, address: str) -> None:
        """Keep the address; nothing is asked yet."""
        self._address = address.rstrip("/")

    def get(self, path: str) -> Any:
        """Return what is found at a path, such as `overview`.

        Raises:
            OSError: the cluster does not answer, or refuses.
        """
        return self._ask("GET", path)

    def cancel(self, job_id: str) -> None:
        """Cancel a job and wait until it has ended.

        Raises:
            OSError: the cluster does not answer, or refuses.
            TimeoutError: the job has not ended within a minute.
        """
        self._ask("PATCH", f"jobs/{job_id}?mode=cancel")
        give_up = time.monotonic() + _CANCEL_TIMEOUT_S
        while self.get(f"jobs/{job_id}")["state"] not in _ENDED:
            if time.monotonic() > give_up:
                raise TimeoutError(f"job {job_id} has not ended {_CANCEL_TIMEOUT_S:.0f} s after it was cancelled")
            time.sleep(_LOOK_EVERY_S)

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"{self._address}/v1/{path}", method=method)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            return json.load(response)
