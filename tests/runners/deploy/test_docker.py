"""The Dockerfile, the compose file, and the copy that `orion-beam deploy` writes."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from orion_beam import __version__
from orion_beam.job_file.read import read_job
from orion_beam.monitoring.server import host_and_port, is_loopback
from orion_beam.runners.deploy import DEPLOYMENT
from orion_beam.runners.deploy.copy import deployment_files
from orion_beam.runners.doctor.machine import flink_version
from orion_beam.workspace import Workspace
from tests.command import Command, orion_beam
from tests.runners.deploy.commands import parsed
from tests.runners.deploy.flink import flink_settings
from tests.runners.deploy.schemas import problems_of_compose

__all__ = ["orion_beam"]

DOCKER = DEPLOYMENT / "docker"
ROOT = Path(__file__).parents[3]


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and their arguments."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(word, rest.strip()) for line in lines if line.strip() for word, _, rest in [line.partition(" ")]]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage by its name."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for word, rest in instructions():
        if word == "FROM":
            name = rest.split()[-1]
        found.setdefault(name, []).append((word, rest))
    return found


def compose() -> dict:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["orion-beam", "orion-flink"])
def test_an_image_does_not_run_as_root(name):
    users = [rest for word, rest in stages()[name] if word == "USER"]
    assert users[-1:] == ["9999:9999"]
    assert stages()[name][-1][0] in ("USER", "ENTRYPOINT")


def test_base_images_have_a_version_and_can_be_given_by_digest():
    arguments = dict(rest.split("=", 1) for word, rest in stages()[""] if word == "ARG")
    assert len(arguments) == 4
    for image in arguments.values():
        _, _, tag = image.partition(":")
        assert re.match(r"\d", tag), image
    bases = {rest.split()[0] for word, rest in instructions() if word == "FROM"}
    assert bases == {f"${{{name}}}" for name in arguments}
    assert arguments["FLINK_IMAGE"].startswith(f"flink:{flink_version()}.")


def test_what_is_copied_is_there():
    for name, lines in stages().items():
        made = dict(rest.split("=", 1) for word, rest in lines if word == "ARG" and "=" in rest)
        for rest in [rest for word, rest in lines if word == "COPY"]:
            *options, source, _ = rest.split()
            if options:
                stage = options[0].removeprefix("--from=")
                assert list(stages()).index(stage) < list(stages()).index(name)
            else:
                assert (ROOT / made[source.strip("${}")]).exists()


def test_kernels_are_compiled_for_the_processors_that_run_them():
    def settings(name: str) -> dict[str, str]:
        text = " ".join(rest for word, rest in stages()[name] if word == "ENV")
        return dict(each.split("=", 1) for each in shlex.split(text))

    built, run = settings("build"), settings("orion-beam")
    for name in ("NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "ORION_HOME"):
        assert built[name] == run[name]


def test_the_dockerfile_calls_commands_of_this_product():
    calls = re.findall(r"bin/orion-beam ([^&]+)", " ".join(rest for word, rest in instructions() if word == "RUN"))
    assert calls
    for call in calls:
        parsed(shlex.split(call), None)


def test_the_compose_file_fits_its_published_schema():
    assert problems_of_compose(compose()) == []


def test_the_compose_file_calls_commands_of_this_product_on_one_job():
    own = {name: each for name, each in compose()["services"].items() if each["image"].startswith("orion-beam:")}
    assert own.keys() == {"topics", "workers", "job", "monitor"}
    for each in own.values():
        parsed(each["command"], DOCKER)
    assert {each["image"] for each in compose()["services"].values()} == {
        f"orion-beam:{__version__}",
        f"orion-flink:{__version__}",
        "apache/kafka:4.1.0",
    }


def test_the_services_of_the_compose_file_agree():
    services = compose()["services"]
    job = read_job(Workspace(DOCKER)).settings
    assert job.brokers == ("kafka:9092",)
    assert job.flink.master == "http://jobmanager:8081"
    pool = parsed(services["workers"]["command"], None).params["pool_listen"]
    assert job.flink.workers == pool.replace("127.0.0.1", "localhost")
    assert services["workers"]["network_mode"] == "service:taskmanager"
    settings = yaml.safe_load(services["taskmanager"]["environment"]["FLINK_PROPERTIES"])
    assert settings.keys() <= flink_settings()
    assert settings["taskmanager.numberOfTaskSlots"] >= job.flink.parallelism
    published = [port for each in services.values() for port in each.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_what_other_containers_reach_asks_for_a_token():
    for each in compose()["services"].values():
        if each["image"].startswith("orion-beam:"):
            options = parsed(each["command"], DOCKER).params
            for address in filter(None, (options.get("listen"), options.get("pool_metrics"))):
                assert is_loopback(host_and_port(address)[0]) or (
                    options["metrics_token"] == Path("/run/secrets", *each["secrets"])
                )
    assert compose()["secrets"] == {"metrics-token": {"file": "./metrics-token"}}


def test_a_user_without_a_checkout_gets_all_files(orion_beam: Command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = orion_beam("deploy", "made", "--json")
    assert code == 0
    assert json.loads(out)["files"] == [str(path) for path in deployment_files()]
    for path in deployment_files():
        assert (tmp_path / "made" / path).read_bytes() == (DEPLOYMENT / path).read_bytes()
    code, _, err = orion_beam("deploy", "made")
    assert code == 2
    assert "is there already" in err


def test_the_wheel_has_all_files():
    patterns = re.search(r'"orion_beam.runners.deploy": (\[.*\])', (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert patterns is not None
    packed = {path for pattern in json.loads(patterns[1]) for path in DEPLOYMENT.glob(pattern) if path.is_file()}
    assert packed == {DEPLOYMENT / path for path in deployment_files()}
