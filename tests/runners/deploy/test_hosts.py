"""The systemd units and Flink's settings for hosts."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from orion_beam.defaults import METRICS_TOKEN_VARIABLE
from orion_beam.runners.deploy import DEPLOYMENT
from tests.runners.deploy.commands import parsed
from tests.runners.deploy.flink import flink_settings

SYSTEMD = DEPLOYMENT / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
every_unit = pytest.mark.parametrize("path", UNITS, ids=[path.stem for path in UNITS])
JOB_FILE = "version: 1\nbrokers: broker:9092\n"
HARDENED = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictNamespaces": "yes",
    "UMask": "0077",
}


class Unit(dict[tuple[str, str], list[str]]):
    """The settings of a unit by section and name. A name may have several values."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        section = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif line and not line.startswith("#"):
                name, _, value = line.partition("=")
                self.setdefault((section, name), []).append(value)

    @property
    def environment(self) -> dict[str, str]:
        return dict(each.split("=", 1) for each in self.get(("Service", "Environment"), []))

    @property
    def command(self) -> list[str]:
        (line,) = self["Service", "ExecStart"]
        return shlex.split(line)


@every_unit
def test_systemd_takes_the_unit(path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    # The programs are on the hosts, and not here.
    assert [
        line for line in done.stderr.splitlines() if str(path.name) in line and "is not executable" not in line
    ] == []


@every_unit
def test_a_unit_runs_without_rights_for_ever_and_with_known_memory(path):
    unit = Unit(path)
    assert {name: unit["Service", name][0] for name in HARDENED} == HARDENED
    assert unit["Service", "User"] == ["orion"]
    assert unit["Service", "Restart"] == ["always"]
    assert unit["Service", "MemoryMax"]
    assert unit["Install", "WantedBy"] == ["multi-user.target"]


@every_unit
def test_secrets_come_as_credentials(path):
    unit = Unit(path)
    loaded = {each.partition(":")[0] for each in unit.get(("Service", "LoadCredential"), [])}
    named = {value for value in unit.environment.values() if value.startswith("%d/")}
    assert named == {f"%d/{name}" for name in loaded}
    assert all(
        each.partition(":")[2].startswith("/etc/orion/secrets/") for each in unit.get(("Service", "LoadCredential"), [])
    )


@pytest.mark.parametrize("name", ["orion-workers", "orion-monitor"])
def test_a_unit_calls_a_command_of_this_product(name, tmp_path):
    program, *words = Unit(SYSTEMD / f"{name}.service").command
    assert program == "/opt/orion/bin/orion-beam"
    (tmp_path / "orion.yaml").write_text(JOB_FILE)
    assert parsed(words, tmp_path).command.name == name.removeprefix("orion-")
    # Other hosts reach its metrics.
    assert METRICS_TOKEN_VARIABLE in Unit(SYSTEMD / f"{name}.service").environment


def test_flink_knows_every_setting_and_two_job_managers_agree_on_their_leader():
    settings = yaml.safe_load((SYSTEMD / "flink-conf.yaml").read_text(encoding="utf-8"))
    assert settings.keys() <= flink_settings()
    assert settings["high-availability.type"] == "zookeeper"
    for place in ("high-availability.storageDir", "state.checkpoints.dir", "state.savepoints.dir"):
        assert settings[place].startswith("s3://")


def test_the_units_agree_on_ports_and_places(tmp_path):
    (tmp_path / "orion.yaml").write_text(JOB_FILE)
    settings = yaml.safe_load((SYSTEMD / "flink-conf.yaml").read_text(encoding="utf-8"))
    monitor = parsed(Unit(SYSTEMD / "orion-monitor.service").command[1:], tmp_path)
    # Several JobManagers of one cluster are one value.
    (addresses,) = monitor.params["flink"]
    assert addresses.split(",") == [f"http://jobmanager-{number}:{settings['rest.port']}" for number in (1, 2)]
    for name in ("orion-jobmanager", "orion-taskmanager"):
        unit = Unit(SYSTEMD / f"{name}.service")
        assert unit.environment["FLINK_CONF_DIR"] == "/etc/orion/flink"
        assert settings["io.tmp.dirs"] == f"/var/lib/{unit['Service', 'StateDirectory'][0]}"
    assert "orion-workers.service" in Unit(SYSTEMD / "orion-taskmanager.service")["Unit", "After"][0].split()
