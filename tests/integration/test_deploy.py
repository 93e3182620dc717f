"""What the files and pages of a deployment promise, on real jars and a real cluster."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orion_beam.runners.cluster.job_jar import JobManifest
from orion_beam.runners.deploy import DEPLOYMENT
from orion_beam.runners.jars.build import build_uber_jar
from orion_beam.runners.local.broker import HOST, free_ports
from orion_beam.runners.local.flink import LocalFlink
from orion_beam.runners.local.kafka import LocalKafka
from tests.integration.harness import await_until
from tests.integration.pages import PATIENCE_S, ROOT, Reader, blocks
from tests.runners.deploy.flink import flink_settings
from tests.runners.deploy.test_kubernetes import of_kind, pods, workspace

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

SESSION_PAGE = ROOT / "docs" / "deploy" / "session-cluster.md"


def test_the_init_container_writes_the_jar_that_flink_starts(tmp_path: Path):
    build_uber_jar(print)
    (deployment, *_) = of_kind("production", "FlinkDeployment")
    (manager, _) = pods(deployment)
    (writer,) = manager["spec"]["initContainers"]
    login = tmp_path / "client.properties"
    login.write_text("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=orion\nsasl.password=geheim\n")
    words = [word.replace("$(COUNTRY)", "FR").replace("/opt/orion/job", str(tmp_path)) for word in writer["args"]]
    environment = os.environ | {
        "ORION_WORKSPACE": str(workspace("production")),
        "ORION_KAFKA_CONFIG": str(login),
        # As in the image.
        "JDK_JAVA_OPTIONS": image_environment()["JDK_JAVA_OPTIONS"],
    }
    done = subprocess.run(
        [sys.executable, "-m", "orion_beam.cli.main", *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = JobManifest.of(tmp_path / "job.jar")
    assert manifest.countries == ("FR",)
    assert manifest.parallelism == deployment["spec"]["job"]["parallelism"]
    assert manifest.workers == "localhost:50000"
    assert deployment["spec"]["flinkVersion"] == "v" + manifest.flink_version.replace(".", "_")
    assert "geheim" not in done.stdout + done.stderr


def image_environment() -> dict[str, str]:
    """Return the variables of the image `orion-beam` whose values stand in quotes."""
    return dict(re.findall(r'(\w+)="([^"]+)"', (DEPLOYMENT / "docker" / "Dockerfile").read_text(encoding="utf-8")))


def settings_here(of_page: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Return the settings of the page and those of Kubernetes that decide how jobs run, with places of this test."""
    (deployment, *_) = of_kind("production", "FlinkDeployment")
    deployed = {
        name: value
        for name, value in deployment["spec"]["flinkConfiguration"].items()
        if name.startswith(("execution.", "restart-strategy.", "state.checkpoints.num"))
    }
    kept = {name: value for name, value in of_page.items() if name.startswith(("execution.", "state."))}
    return (
        deployed | kept | {f"state.{name}.dir": (directory / name).as_uri() for name in ("checkpoints", "savepoints")}
    )


@pytest.mark.deep
def test_the_page_of_the_session_cluster_works_word_for_word(kafka: LocalKafka, tmp_path: Path):
    pool_port, metrics_port = free_ports(2)
    (flink, *rest) = blocks(SESSION_PAGE)
    settings = yaml.safe_load(re.search(r"<<'END'\n(.*?)^END$", flink.text, re.DOTALL | re.MULTILINE)[1])
    assert settings.keys() <= flink_settings()
    home = tmp_path / "reader"
    home.mkdir()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    person = Reader(home, environment)
    outputs: dict[str, str] = {}
    slots = settings.pop("taskmanager.numberOfTaskSlots")
    with LocalFlink(tmp_path / "flink", slots, settings=settings_here(settings, tmp_path)) as cluster:
        places = {
            "localhost:9092": kafka.bootstrap_servers,
            "http://localhost:8081": cluster.address,
            "localhost:50000": f"{HOST}:{pool_port}",
            "127.0.0.1:9311": f"{HOST}:{metrics_port}",
            "orion-beam workers --metrics": f"orion-beam workers --listen {HOST}:{pool_port} --metrics",
        }
        try:
            for block in rest:
                text = block.text
                for place, here in places.items():
                    text = text.replace(place, here)
                if block.title == "orion.yaml":
                    (person.cwd / block.title).write_text(text, encoding="utf-8")
                elif block.title == "second terminal":
                    person.begin(text)
                elif block.title == "repeat":
                    await_until(
                        lambda text=text: person.run(text).returncode == 0,
                        PATIENCE_S,
                        f"line {block.number} of the page; the second terminal: {person.log.read_text()[-3000:]}",
                    )
                else:
                    done = person.run(text)
                    said = f"line {block.number}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
                    assert done.returncode == 0, f"{said}\n{person.log.read_text()[-3000:]}"
                    outputs[text] = done.stdout
            assert cluster.job_states() == ["RUNNING"]
            assert list((tmp_path / "checkpoints").rglob("_metadata"))
            assert any("orion-orion-beam-FR" in out for out in outputs.values())
        finally:
            person.interrupt()
