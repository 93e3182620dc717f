"""The alert rules: what is shipped, when they fire, and that they ask for metrics that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from orion_beam.runners.monitoring.alerts import ALERT_RULES, AlertLimits, alert_rules
from tests.debian import require_program
from tests.runners.monitoring.names import asked_for, exported

REPOSITORY = Path(__file__).parents[3]


def test_the_rules_that_are_shipped_are_those_of_the_template() -> None:
    assert ALERT_RULES.read_text() == alert_rules(AlertLimits()), "run `make docs`"


def test_rules_ask_for_metrics_that_exist() -> None:
    conditions = "\n".join(
        line for line in ALERT_RULES.read_text().splitlines() if "_url:" not in line and "#" not in line
    )
    asked = asked_for(conditions)
    assert len(asked) > 10
    assert asked - exported() == set()


def test_each_alert_has_severity_summary_and_a_runbook_that_tells_of_it() -> None:
    alerts = re.split(r"\n +- alert: ", ALERT_RULES.read_text())[1:]
    assert len(alerts) > 10
    for alert in alerts:
        name = alert.split()[0]
        assert re.search(r"severity: (warning|critical)\}", alert), name
        assert re.search(r'summary: ".+"', alert), name
        (runbook,) = re.findall(r"runbook_url: (\S+)", alert)
        page = (REPOSITORY / runbook).read_text()
        assert name in page.split("\n## ")[0]
        headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
        assert headings == ["What it means", "What to look at", "What to do", "How to verify"]


@pytest.mark.parametrize("limits", [AlertLimits(), AlertLimits(interval="1s", hold="0s", window="10s", lag_s=1.5)])
def test_promtool_finds_no_fault(limits: AlertLimits, tmp_path: Path) -> None:
    promtool = require_program("promtool", package="prometheus")
    rules = tmp_path / "alerts.yml"
    rules.write_text(alert_rules(limits))
    subprocess.run([promtool, "check", "rules", rules], check=True, capture_output=True)


def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    promtool = require_program("promtool", package="prometheus")
    cases = Path(__file__).with_name("alerts_test.yml")
    alerts = set(re.findall(r"- alert: (\w+)", ALERT_RULES.read_text()))
    assert alerts == set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n +- ", cases.read_text()))
    shutil.copy(ALERT_RULES, tmp_path)
    shutil.copy(cases, tmp_path)
    tested = subprocess.run([promtool, "test", "rules", cases.name], cwd=tmp_path, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr
