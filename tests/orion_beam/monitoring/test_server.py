"""The monitor's pages, over HTTP."""

import json
import re
import urllib.request
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
