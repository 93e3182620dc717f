"""Client of a Flink cluster's REST API (Flink 1.19)."""

import json
import logging
import re
import time
import urllib.request
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError

from orion_beam.errors import UserError
from orion_beam.telemetry.masking import without_secrets

_TIMEOUT_S = 10.0
_CHANGE_TIMEOUT_S = 180.0
"""Longest wait for an answer to a request that changes something. To run a jar, Flink first translates its pipeline."""
_CHUNK_BYTES = 1 << 20
_CANCEL_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.2
_MAX_REASON = 300
ENDED_STATES = {"CANCELED", "FAILED", "FINISHED"}
_NOT_NOW = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
"""Statuses of a JobManager that elects a leader, or of a proxy in front of one that starts."""
_PASSING = re.compile(
    "FencingTokenException|RecipientUnreachableException|EndpointNotStartedException|AskTimeoutException"
    "|RpcConnectionException|NotLeaderException|LeaderElection|UnavailableDispatcherOperationException"
    "|java.util.concurrent.TimeoutException"
)
"""Java errors by which a JobManager says that the one that leads is gone, does not lead yet, is still starting the job,
or has too much to do."""
NO_LEADER_FIX = "try again, or start all its JobManagers again if none of them leads"
"""Advice when a refusal `passes`. ZooKeeper can leave a cluster without a leader: see docs/runbooks/checkpoints.md."""
_WARN_AFTER_S = 15.0
"""Time after which an election takes longer than it should, and who waits is told."""
_ELECTION_S = 120.0
"""Longest election of a leader. With ZooKeeper it begins when the session of the last one ends, 60 s by default."""

_logger = logging.getLogger(__name__)


class FlinkRefusedError(OSError):
    """The cluster answers that it does not do what it was asked to.

    Attributes:
        status: HTTP status of the answer.
        text: All that the cluster says, with Java's stack traces.
    """

    def __init__(self, status: int, text: str) -> None:
        """Take the answer; the message is the innermost cause that it names."""
        causes = re.findall("(?:Caused by: |<Exception on server side:\n)(.*)", text)
        first = text.strip().partition("\n")[0]
        super().__init__((causes[-1].strip() if causes else first)[:_MAX_REASON] or f"HTTP status {status}")
        self.status = status
        self.text = text

    @property
    def passes(self) -> bool:
        """Whether the cluster says that it cannot answer now, for instance because it elects a leader."""
        return self.status in _NOT_NOW or _PASSING.search(self.text) is not None


class FlinkRest:
    """Client of one cluster.

    Args:
        address: Address such as `http://jobmanager:8081`, as Beam's `--flink_master` has it. Of a cluster with several
            JobManagers, the addresses of all, separated by commas: whichever leads, each of them answers for it.
    """

    def __init__(self, address: str) -> None:
        """Keep the address; nothing is asked yet.

        Raises:
            UserError: The address has a user or password.
        """
        if without_secrets(address) != address:
            raise UserError(
                "the address of Flink has a user or password, which whoever lists processes would see: have a proxy on"
                " this machine log in, and name the proxy"
            )
        # The first of them is asked. One that cannot be reached becomes the last.
        each = (part.strip().rstrip("/") for part in address.split(","))
        self._addresses = deque(one if "://" in one else f"http://{one}" for one in each)

    def get(self, path: str, wait_s: float = 0.0) -> Any:
        """Return the JSON answer for a path, such as `overview`.

        Args:
            path: Path below the API's version.
            wait_s: Seconds for which to retry while the cluster refuses or breaks connections. If this is not 0, a
                cluster that says that it cannot answer now is asked for two minutes at least.

        Raises:
            OSError: the cluster does not answer, or refuses.
        """
        return self._ask("GET", path, wait_s)

    def last_lines(self, path: str, lines: int) -> list[str]:
        """Return the last lines of a text, such as that of a log file, which may be large.

        Raises:
            OSError: the cluster does not answer, or refuses.
        """
        last: deque[bytes] = self._ask("GET", path, 0.0, read=lambda answer: deque(answer, lines))
        return [line.decode(errors="replace").rstrip("\r\n") for line in last]

    def post(self, path: str, body: Mapping[str, Any] | None = None, wait_s: float = 0.0) -> Any:
        """Send a JSON object and return the JSON answer. A repeated request must do no harm: see `wait_s` of `get`.

        Raises:
            FlinkRefusedError: the cluster refuses.
            OSError: the cluster does not answer.
        """
        data = None if body is None else json.dumps(body).encode()
        return self._ask("POST", path, wait_s, data, {"Content-Type": "application/json"}, _CHANGE_TIMEOUT_S)

    def upload(self, jar: Path, name: str) -> str:
        """Upload a jar under a name, and return the id by which the cluster knows it.

        Raises:
            OSError: the cluster does not answer, or refuses.
        """
        boundary = uuid.uuid4().hex
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="jarfile"; filename="{name}"\r\n'
            "Content-Type: application/java-archive\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()

        def parts() -> Iterator[bytes]:
            yield head
            with jar.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
            yield tail

        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + jar.stat().st_size + len(tail)),
        }
        answer = self._ask("POST", "jars/upload", 0.0, parts, headers, _CHANGE_TIMEOUT_S)
        return str(answer["filename"]).rpartition("/")[2]

    def delete(self, path: str) -> None:
        """Delete what a path names, such as `jars/ID`.

        Raises:
            OSError: the cluster does not answer, or refuses.
        """
        self._ask("DELETE", path, 0.0)

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

    def _ask(
        self,
        method: str,
        path: str,
        wait_s: float,
        data: bytes | Callable[[], Iterator[bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = _TIMEOUT_S,
        read: Callable[[IO[bytes]], Any] = json.load,
    ) -> Any:
        began, has_warned = time.monotonic(), False
        others = len(self._addresses) - 1
        while True:
            url = f"{self._addresses[0]}/v1/{path}"
            body = data() if callable(data) else data
            request = urllib.request.Request(url, data=body, headers=dict(headers or {}), method=method)
            try:
                with urllib.request.urlopen(request, timeout=timeout_s) as response:
                    return read(response)
            except (OSError, HTTPException) as error:
                told = _told(error)
                if not isinstance(told, FlinkRefusedError):
                    self._addresses.rotate(-1)
                    if isinstance(told, URLError) and others > 0:
                        others -= 1
                        continue
                    others = len(self._addresses) - 1
                is_election = isinstance(told, FlinkRefusedError) and told.passes
                patience_s = max(wait_s, _ELECTION_S) if wait_s and is_election else wait_s
                waited_s = time.monotonic() - began
                if not passes(told) or waited_s >= patience_s:
                    raise told from None
                if is_election and waited_s >= _WARN_AFTER_S and not has_warned:
                    has_warned = True
                    _logger.warning(
                        "waiting for Flink at %s, at most %.0f s: %s", self._addresses[0], patience_s, told,
                        extra={"event": "waiting_for_flink"},
                    )  # fmt: skip
            time.sleep(_LOOK_EVERY_S)


def _told(error: OSError | HTTPException) -> OSError:
    """Return an error as this module raises it: with the words of the cluster, if it has answered."""
    if not isinstance(error, HTTPError):
        return error if isinstance(error, OSError) else ConnectionError(repr(error))
    with error:
        try:
            text = "\n".join(json.load(error)["errors"])
        except (ValueError, KeyError, TypeError, OSError, HTTPException):
            text = f"HTTP status {error.code} {error.reason}"
    return FlinkRefusedError(error.code, text)


def passes(error: OSError) -> bool:
    """Return whether an error passes by itself, as those of a cluster that starts or elects a leader do."""
    if isinstance(error, FlinkRefusedError):
        return error.passes
    # If it is no URLError, the connection broke in the middle of an answer.
    reason = error.reason if isinstance(error, URLError) else error
    return isinstance(reason, ConnectionError | TimeoutError)
