"""The Grafana dashboards: those that are shipped, whole, and asking for metrics that exist."""

import json
import re

import pytest

from orion_beam.runners.monitoring.dashboards import DASHBOARDS, DASHBOARDS_DIRECTORY, dashboard
from tests.runners.monitoring.names import asked_for, exported


def test_those_that_are_shipped_are_those_of_the_code() -> None:
    shipped = {path.stem: path.read_text() for path in DASHBOARDS_DIRECTORY.glob("*.json")}
    assert shipped == {name: dashboard(name) for name in DASHBOARDS}, "run `make docs`"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_queries_ask_for_metrics_that_exist(name: str) -> None:
    queries = [query for panel in DASHBOARDS[name][1] for query in panel.queries.values()]
    assert all(asked_for(query) for query in queries)
    assert asked_for("\n".join(queries)) - exported() == set()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_lie_on_each_other(name: str) -> None:
    places = [panel["gridPos"] for panel in json.loads(dashboard(name))["panels"]]
    cells = [(x, place["y"]) for place in places for x in range(place["x"], place["x"] + place["w"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_metric_of_jobs_is_of_the_chosen_environment(name: str) -> None:
    board = json.loads(dashboard(name))
    assert any(each["name"] == "environment" for each in board["templating"]["list"])
    for query in (target["expr"] for panel in board["panels"] for target in panel["targets"]):
        own = re.findall(r"\b(?:orion_\w+|kafka_consumer_\w+|kafka_producer_\w+)(.{0,30})", query)
        assert all(rest.startswith('{environment=~"$environment"') for rest in own), query
        assert query.count("$environment") == len(own), query
