"""`orion-beam local up --monitoring` as a user types it: Kafka, monitor, Prometheus with all alerts, and their end."""

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from orion_beam.job_file.environment import PREFIX_VARIABLE
from orion_beam.runners.monitoring.alerts import AlertLimits, alert_rules
from tests.debian import require_program
from tests.integration.harness import await_until, scrape
from tests.integration.local import Local, local_in

pytestmark = [pytest.mark.integration, pytest.mark.deep]

PATIENCE_S = 600.0


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    with local_in(tmp_path) as command:
        yield command


def is_up(monitor: str) -> bool:
    return [sample.value for sample in scrape(f"{monitor}metrics") if sample.name == "orion_kafka_up"] == [1]


def test_it_brings_up_all_that_watches_kafka_and_down_ends_it(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    require_program("prometheus", package="prometheus")
    up = local.up(["FR", "TN"], "--monitoring", "--limit=lag_s=17")
    assert {"cdr.raw.FR", "cdr.raw.TN", "cdr.final", "cdr.dlq"} <= set(up["topics_created"])

    def get(path: str) -> Any:
        with urllib.request.urlopen(f"{up['prometheus']}api/v1/{path}", timeout=600) as answer:
            return json.load(answer)["data"]

    def healthy() -> set[str]:
        return {each["labels"]["job"] for each in get("targets")["activeTargets"] if each["health"] == "up"}

    with urllib.request.urlopen(up["monitor"], timeout=600) as page:
        assert b"<html" in page.read(1_000)
    await_until(lambda: is_up(up["monitor"]), PATIENCE_S, "the monitor has found Kafka")
    rules = {rule["name"]: rule["query"] for group in get("rules")["groups"] for rule in group["rules"]}
    assert set(rules) == set(re.findall(r"alert: (\w+)", alert_rules(AlertLimits()))) != set()
    assert rules["OrionLag"] == "orion_kafka_lag_seconds > 17"
    await_until(lambda: {"orion-monitor", "kafka"} <= healthy(), PATIENCE_S, "Prometheus has scraped both")
    # An environment on the same Kafka has topics of its own, and Prometheus says what is of it.
    monkeypatch.setenv(PREFIX_VARIABLE, "staging.")
    again = local("up", "--countries", "FR,TN", "--monitoring")
    assert (again["monitor"], again["prometheus"]) == (up["monitor"], up["prometheus"])
    assert sorted(again["topics_created"]) == sorted(f"staging.{name}" for name in up["topics_created"])
    expected = {"orion-monitor": "staging", "orion-workers": "staging", "kafka": None}

    def environments() -> dict[str, str | None]:
        targets = get("targets")["activeTargets"]
        return {each["labels"]["job"]: each["labels"].get("environment") for each in targets}

    await_until(lambda: environments() == expected, PATIENCE_S, f"the targets of Prometheus are {expected}")

    local("down", "--purge")
    for address in (up["monitor"], up["prometheus"], f"kafka://{up['bootstrap_servers']}"):
        with socket.socket() as probe:
            assert probe.connect_ex((urlsplit(address).hostname, urlsplit(address).port)), address
