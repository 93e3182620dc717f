"""The token of metrics and status pages, with the real monitor and a real Prometheus."""

import json
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest

from orion_beam.defaults import METRICS_TOKEN_VARIABLE
from orion_beam.runners.local.broker import HOST, free_ports
from orion_beam.runners.local.development import LocalState
from orion_beam.runners.monitoring.alerts import AlertLimits
from orion_beam.runners.monitoring.stack import start_monitoring, stop_monitoring
from orion_beam.runners.worker_pool.exposition import worker_exposition
from tests.debian import require_program
from tests.integration.harness import await_until

pytestmark = pytest.mark.integration

PATIENCE_S = 600.0


def token_in(path: Path) -> Path:
    path.write_text(f"{path.name}-0123456789abcdef\n")
    path.chmod(0o600)
    return path


def test_prometheus_bears_the_token_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_program("prometheus", package="prometheus")
    right, wrong = token_in(tmp_path / "right"), token_in(tmp_path / "wrong")
    monkeypatch.setenv("ORION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(METRICS_TOKEN_VARIABLE, str(right))
    gone, workers_port = free_ports(2)
    # The monitor serves without Kafka, too.
    cluster = LocalState.model_construct(brokers=(), bootstrap_servers=f"{HOST}:{gone}", data_dir=str(tmp_path))
    try:
        monitoring = start_monitoring(cluster, [], workers_port, AlertLimits(interval="1s"))

        def health() -> dict[str, str]:
            with urllib.request.urlopen(f"{monitoring.prometheus}api/v1/targets", timeout=600) as answer:
                targets = json.load(answer)["data"]["activeTargets"]
            return {each["labels"]["job"]: f"{each['health']}: {each['lastError']}" for each in targets}

        with worker_exposition(f"0.0.0.0:{workers_port}", token_file=right):
            expected = {"orion-monitor": "up: ", "orion-workers": "up: "}
            await_until(lambda: health() == expected, PATIENCE_S, "Prometheus scrapes both")
        with worker_exposition(f"0.0.0.0:{workers_port}", token_file=wrong):
            await_until(lambda: "401" in health()["orion-workers"], PATIENCE_S, "the workers refuse another token")
        with pytest.raises(HTTPError, match="401") as refused:
            urllib.request.urlopen(monitoring.monitor, timeout=600)
        assert refused.value.read() == b""
        with urllib.request.urlopen(f"{monitoring.monitor}live", timeout=600) as answer:
            assert answer.status == 200
    finally:
        stop_monitoring()
