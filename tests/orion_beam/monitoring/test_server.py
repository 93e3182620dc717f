"""The monitor's pages, over HTTP."""

import json
import re
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError

import pytest

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.monitoring.monitor import Snapshot
from orion_beam.monitoring.server import monitor_pages, serving
from orion_beam.monitoring.status import MAX_POINTS
from tests.orion_beam.monitoring.snapshots import AT_S, monitor, snapshot


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=600) as answer:
        return str(answer.read().decode())


def test_pages_are_served() -> None:
    with serving("127.0.0.1:0", monitor_pages(monitor(snapshot()))) as url:
        assert 'orion_kafka_lag_seconds{country="FR"} 60.0' in get(f"{url}/metrics")
        assert json.loads(get(f"{url}/api/status"))["countries"]["FR"]["now"]["lag"] == 6
        assert "<!doctype html>" in get(url + "/")
        with pytest.raises(HTTPError, match="404"):
            get(f"{url}/none")


TOKEN = "0123456789abcdef"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


def basic(password: str, user: str = "anybody") -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def get_with(url: str, authorization: str | None) -> tuple[int, str]:
    """Return status and body of an answer; check that a refusal says how to log in, and nothing else."""
    request = urllib.request.Request(url, headers={} if authorization is None else {"Authorization": authorization})
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        refused = error
    if refused.code == 401:
        assert [each.split()[0] for each in refused.headers.get_all("WWW-Authenticate")] == ["Basic", "Bearer"]
        assert refused.headers["Server"].strip() == "orion-beam"
    return refused.code, refused.read().decode()


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/status", "/metrics?x=1", "/none"])
def test_whoever_does_not_bear_the_token_gets_nothing(token_file: Path, path: str) -> None:
    with serving("127.0.0.1:0", monitor_pages(monitor(snapshot())), token_file) as url:
        for wrong in (
            None, "", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}0", "Bearer \xe9\xe8", TOKEN,
            f"Digest {TOKEN}", "Basic", "Basic ?", "Basic 6Q==", basic(""), basic(TOKEN[1:]), basic("x", user=TOKEN),
            f"Basic {b64encode(TOKEN.encode()).decode()}",
        ):  # fmt: skip
            assert get_with(url + path, wrong) == (401, ""), wrong


@pytest.mark.parametrize(
    "of", [lambda token: f"Bearer {token}", lambda token: f"bearer  {token} ", basic, lambda token: basic(token, "")]
)
def test_the_token_opens_all_pages_and_can_be_replaced(token_file: Path, of: Callable[[str], str]) -> None:
    with serving("0.0.0.0:0", monitor_pages(monitor(snapshot())), token_file) as url:
        url = url.replace("0.0.0.0", "127.0.0.1")
        for path in ("/", "/metrics", "/api/status"):
            status, body = get_with(url + path, of(TOKEN))
            assert status == 200
            assert body
        assert get_with(f"{url}/none", of(TOKEN))[0] == 404
        token_file.write_text("another-0123456789")
        assert get_with(f"{url}/metrics", of(TOKEN)) == (401, "")
        assert get_with(f"{url}/metrics", of("another-0123456789"))[0] == 200
        token_file.unlink()
        assert get_with(f"{url}/metrics", of("another-0123456789")) == (401, "")


def test_probes_need_no_token(token_file: Path) -> None:
    with serving("127.0.0.1:0", monitor_pages(monitor(snapshot())), token_file) as url:
        assert [get_with(f"{url}/{probe}", None) for probe in ("live", "ready")] == [(200, ""), (200, "")]
    with serving("127.0.0.1:0", monitor_pages(monitor()), token_file) as url:
        assert get_with(f"{url}/live", None) == (200, "")
        assert get_with(f"{url}/ready", None) == (503, "the monitor has not looked at Kafka yet\n")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "0:0", "example.com:0"])
def test_without_a_token_only_this_machine_is_served(address: str) -> None:
    with pytest.raises(UserError, match=r"^--metrics-listen .* --metrics-token-file$"):
        serving(address, {}, option="--metrics-listen").__enter__()
    with serving("localhost:0", {}):
        pass


def test_the_page_needs_nothing_from_elsewhere() -> None:
    with serving("127.0.0.1:0", monitor_pages(monitor())) as url:
        page = get(url + "/")
    assert not re.findall(r"""(?:src|href)=(?!["']?(?:data:|#))|url\(|@import|https?://(?!www\.w3\.org)""", page)


def test_history_has_gaps_where_kafka_was_down_and_is_no_longer_than_a_chart() -> None:
    looks = [Snapshot(at_s=AT_S + 5 * n) if 300 <= n < 330 else snapshot(AT_S + 5 * n) for n in range(600)]
    with serving("127.0.0.1:0", monitor_pages(monitor(*looks))) as url:
        status = json.loads(get(f"{url}/api/status"))
    history = status["history"]
    columns = [history["at"], *history["countries"]["FR"].values(), *history["countries"]["TN"].values()]
    assert {len(column) for column in columns} == {200}
    assert len(history["at"]) <= MAX_POINTS
    assert history["at"][-1] == looks[-1].at_s
    assert history["countries"]["FR"]["lag_s"].count(None) == 10


def test_a_taken_or_wrong_address_is_the_users_mistake() -> None:
    with (
        serving("127.0.0.1:0", {}) as url,
        pytest.raises(PrerequisiteError, match="cannot listen on"),
        serving(url.removeprefix("http://"), {}),
    ):
        pass
    with pytest.raises(UserError, match="no address"), serving("9310", {}):
        pass
