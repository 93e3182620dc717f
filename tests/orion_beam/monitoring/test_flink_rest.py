"""A Flink that comes up, or elects a leader, is asked again by who waits for it; a refusal is an error at once.

tests/integration/test_cluster.py starts, asks and cancels on a real one.
"""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import URLError

import pytest

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.jobs import cluster_jobs
from orion_beam.jobs.cluster_jobs import jobs_on
from orion_beam.monitoring import flink_rest
from orion_beam.monitoring.flink_rest import FlinkRefusedError, FlinkRest
from orion_beam.runners.doctor.flink_cluster import check_flink

PATIENCE_S = 600.0


@contextmanager
def serving(port: int, *codes: int, body: bytes = b'{"slots-total": 2}') -> Iterator[list[str]]:
    """Answer with these codes, in order, and with the last one from then on; 0 breaks the connection."""
    left, asked = list(codes), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            code = left.pop(0) if len(left) > 1 else left[0]
            if code == 0:
                self.connection.close()
                return
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_leader_that_is_not_elected_yet_and_a_broken_connection_are_waited_for(port: int) -> None:
    with serving(port, 503, 0, 503, 200) as asked:
        assert FlinkRest(f"http://127.0.0.1:{port}").get("overview", PATIENCE_S) == {"slots-total": 2}
    assert asked == ["/v1/overview"] * 4


def test_a_cluster_that_does_not_listen_yet_is_waited_for(port: int) -> None:
    rest, found = FlinkRest(f"http://127.0.0.1:{port}"), []
    waiting = threading.Thread(target=lambda: found.append(rest.get("overview", PATIENCE_S)))
    waiting.start()
    with serving(port, 200):
        waiting.join()
    assert found == [{"slots-total": 2}]


@pytest.mark.parametrize("code", [400, 401, 404, 500])
def test_a_refusal_is_an_error_at_once(port: int, code: int) -> None:
    with serving(port, code) as asked, pytest.raises(FlinkRefusedError, match=str(code)) as refused:
        FlinkRest(f"http://127.0.0.1:{port}").get("overview", PATIENCE_S)
    assert refused.value.status == code
    assert len(asked) == 1


def test_who_does_not_wait_has_the_error_at_once(port: int) -> None:
    with pytest.raises(URLError, match="refused"):
        FlinkRest(f"http://127.0.0.1:{port}").get("overview")
    with serving(port, 503) as asked, pytest.raises(FlinkRefusedError, match="503"):
        FlinkRest(f"http://127.0.0.1:{port}").get("overview")
    assert len(asked) == 1


def test_a_refusal_names_the_innermost_cause() -> None:
    text = "org.A: failed\n\tat org.B\nCaused by: org.C: it\n\tat org.D\nCaused by: java.E: No such file: x\n\t... 9"
    assert str(FlinkRefusedError(500, text)) == "java.E: No such file: x"
    assert str(FlinkRefusedError(400, "no such jar")) == "no such jar"
    assert str(FlinkRefusedError(500, STARTING)).endswith("Unable to get JobMasterGateway for initializing job.")


def test_the_end_of_a_log_is_read_line_by_line(port: int) -> None:
    with serving(port, 200):
        assert FlinkRest(f"http://127.0.0.1:{port}").last_lines("jobmanager/log", 3) == ['{"slots-total": 2}']


def test_of_several_addresses_one_that_answers_is_asked_and_stays_the_one(port: int) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = closed.getsockname()[1]
        rest = FlinkRest(f"http://127.0.0.1:{gone}, 127.0.0.1:{port}/")
        with serving(port, 200) as asked:
            assert rest.get("overview") == {"slots-total": 2}
            assert rest.get("overview") == {"slots-total": 2}
        assert asked == ["/v1/overview"] * 2
        # Now neither answers, and then the first one does again.
        with pytest.raises(URLError, match="refused"):
            rest.get("overview")
    with serving(gone, 200):
        assert rest.get("overview") == {"slots-total": 2}


def test_a_refusal_by_one_of_several_is_the_answer(port: int) -> None:
    with serving(port, 404, 200) as asked, pytest.raises(FlinkRefusedError, match="404"):
        FlinkRest(f"http://127.0.0.1:{port},http://127.0.0.1:{port}").get("overview")
    assert len(asked) == 1


@pytest.mark.parametrize("address", ["http://me:hunter2@flink:8081", "http://a:8081,http://me:hunter2@b:8081"])
def test_an_address_with_a_password_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(UserError, match="has a user or password, which whoever lists processes would see") as refused:
        FlinkRest(address)
    assert "hunter2" not in str(refused.value)


ELECTS = b'{"errors": ["an ongoing leader election"]}'
LEADERLESS = b'{"errors": ["Internal server error.", "org.apache.flink.FencingTokenException: Fencing token not set"]}'


def test_a_cluster_that_says_that_it_has_no_leader_is_asked_for_longer_than_one_that_is_silent(port: int) -> None:
    asked: list[str]
    with serving(port, 500, body=LEADERLESS) as asked, pytest.raises(FlinkRefusedError, match="Internal") as refused:
        FlinkRest(f"http://127.0.0.1:{port}").get("overview")
    assert refused.value.passes
    assert len(asked) == 1
    with serving(port, 500, 503, 500, 200, body=LEADERLESS) as asked:
        assert "errors" in FlinkRest(f"http://127.0.0.1:{port}").get("overview", 0.001)
    assert len(asked) == 4


def test_who_waits_for_a_leader_is_told_once(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flink_rest, "_WARN_AFTER_S", 0.0)
    with serving(port, 503, 503, 503, 200, body=ELECTS):
        FlinkRest(f"http://127.0.0.1:{port}").get("overview", PATIENCE_S)
    told = f"waiting for Flink at http://127.0.0.1:{port}, at most 600 s: an ongoing leader election"
    assert caplog.messages == [told]


def test_a_cluster_without_a_leader_is_told_from_one_that_is_not_there(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(cluster_jobs, "_WAIT_S", 0.0)
    with serving(port, 503, body=ELECTS):
        with pytest.raises(PrerequisiteError, match="start all its JobManagers again if none of them leads"):
            jobs_on(FlinkRest(address), address)
        assert "start all its JobManagers again" in check_flink(address).fix
    with pytest.raises(PrerequisiteError, match="check --flink, or start the cluster"):
        jobs_on(FlinkRest(address), address)
    assert check_flink(address).fix == "check --flink_master"


STARTING = (
    "Internal server error.\n<Exception on server side:\norg.apache.flink.runtime.dispatcher."
    "UnavailableDispatcherOperationException: Unable to get JobMasterGateway for initializing job.\n\tat org.B"
)
SLOW = "Internal server error.\njava.util.concurrent.TimeoutException: Invocation of [RemoteRpcInvocation] timed out."


@pytest.mark.parametrize("text", [STARTING, SLOW])
def test_a_job_that_flink_is_still_starting_and_a_cluster_that_is_too_busy_are_asked_again(
    port: int, text: str
) -> None:
    with serving(port, 500, 500, 200, body=json.dumps({"errors": text.split("\n", 1)}).encode()) as asked:
        FlinkRest(f"http://127.0.0.1:{port}").get("jobs/1/checkpoints", PATIENCE_S)
    assert len(asked) == 3


def test_one_of_several_that_breaks_the_connection_is_not_asked_again_at_once(port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        second = other.getsockname()[1]
    with serving(port, 0) as broken, serving(second, 200) as asked:
        rest = FlinkRest(f"http://127.0.0.1:{port},http://127.0.0.1:{second}")
        assert rest.get("overview", PATIENCE_S) == {"slots-total": 2}
    assert (len(broken), len(asked)) == (1, 1)
