"""Monitoring of the development cluster: the monitor and a Prometheus with the alert rules, as background processes."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from orion_beam.defaults import METRICS_TOKEN_VARIABLE
from orion_beam.durations import parse_duration_s
from orion_beam.errors import ServiceFailedError
from orion_beam.job_file.environment import environment_name
from orion_beam.job_file.options import WITHOUT_JOB
from orion_beam.runners.jars.build import orion_home
from orion_beam.runners.local.broker import BROKER_STOP_TIMEOUT_S, HOST, free_ports, is_taken
from orion_beam.runners.local.development import LocalState
from orion_beam.runners.local.processes import find_alive, is_alive
from orion_beam.runners.monitoring.alerts import AlertLimits, alert_rules

MONITOR_PORT, PROMETHEUS_PORT = 9310, 9090
"""Ports of the two; a free port is used instead of one that is taken."""

_START_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.05

_CONFIG = """\
global: {{scrape_interval: {interval}, evaluation_interval: {interval}, scrape_timeout: {interval}}}
rule_files: [alerts.yml]
scrape_configs:
  - {{job_name: orion-monitor, {token}static_configs: [{{targets: ["{monitor}"], labels: {labels}}}]}}
  - {{job_name: orion-workers, {token}static_configs: [{{targets: ["{workers}"], labels: {labels}}}]}}
  - {{job_name: kafka, static_configs: [{{targets: {brokers}}}]}}
"""


class Monitoring(NamedTuple):
    """Addresses of the running monitoring.

    Attributes:
        monitor: URL of the status page.
        prometheus: URL of Prometheus; None when Prometheus is not installed.
    """

    monitor: str
    prometheus: str | None


def start_monitoring(
    cluster: LocalState, flink_urls: Sequence[str], workers_port: int, limits: AlertLimits
) -> Monitoring:
    """Start the monitor and, where it is installed, Prometheus, in the background. Stop earlier ones first.

    Args:
        cluster: The development cluster; the file system of its data is watched, too.
        flink_urls: REST addresses of JobManagers to watch.
        workers_port: Port at which a job's workers will serve their metrics.
        limits: Limits of the alerts; their interval is also the interval of the monitor and of scrapes.

    Returns:
        The addresses, at which both listen when the call returns.

    Raises:
        ServiceFailedError: One of them does not start. The message names the directory of its log.
    """
    # Processes that are started again keep their addresses.
    usual, earlier = (MONITOR_PORT, PROMETHEUS_PORT), stop_monitoring()
    wanted = (*earlier, *usual[len(earlier) :])
    directory = _directory()
    directory.mkdir(parents=True, exist_ok=True)
    monitor_port, prometheus_port = (
        other if is_taken(port) else port for port, other in zip(wanted, free_ports(len(wanted)), strict=True)
    )
    monitor = f"{HOST}:{monitor_port}"
    watch = ["monitor", "--bootstrap-servers", cluster.bootstrap_servers, "--listen", monitor]
    watch += [f"--disk={cluster.data_dir}", f"--interval={parse_duration_s(limits.interval)}"]
    watch += [f"--workers={HOST}:{workers_port}"]
    watch += [f"--flink={url}" for url in flink_urls]
    processes = [_launch("monitor", [sys.executable, "-m", "orion_beam.cli.main", *watch])]
    prometheus = shutil.which("prometheus")
    if prometheus is not None:
        (directory / "alerts.yml").write_text(alert_rules(limits))
        brokers = json.dumps([f"{HOST}:{port}" for port in cluster.metrics_ports])
        workers = f"{HOST}:{workers_port}"
        config = directory / "prometheus.yml"
        labels = json.dumps({"environment": name} if (name := environment_name()) else {})
        config.write_text(
            _CONFIG.format(
                interval=limits.interval,
                monitor=monitor,
                workers=workers,
                brokers=brokers,
                labels=labels,
                token=_token_setting(),
            )
        )
        processes.append(
            _launch(
                "prometheus",
                [
                    *(prometheus, f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}"),
                    *(f"--web.listen-address={HOST}:{prometheus_port}", "--storage.tsdb.retention.time=1d"),
                ],
            )
        )
    started = list(zip(processes, (monitor_port, prometheus_port), strict=False))
    state = [(process.pid, process.create_time(), port) for process, port in started]
    _state_file().write_text(json.dumps(state))
    for process, port in started:
        _await_listening(process, port)
    return Monitoring(f"http://{monitor}/", f"http://{HOST}:{prometheus_port}/" if prometheus else None)


def stop_monitoring() -> list[int]:
    """Stop the processes of `start_monitoring` that still run, and delete Prometheus' data.

    Returns:
        The ports of the monitor and of Prometheus, as far as they are known: earlier releases did not keep them.
    """
    ports: list[int] = []
    with suppress(FileNotFoundError):
        running = []
        for pid, created, *port in json.loads(_state_file().read_text()):
            ports += port
            process = find_alive(pid, created)
            if process is not None:
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
                running.append(process)
        for process in psutil.wait_procs(running, BROKER_STOP_TIMEOUT_S)[1]:
            process.kill()
    shutil.rmtree(_directory(), ignore_errors=True)
    return ports


def _token_setting() -> str:
    """Return how Prometheus reads the token that the environment gives to the monitor and the workers, if it does."""
    path = os.environ.get(METRICS_TOKEN_VARIABLE)
    return f"authorization: {{credentials_file: {json.dumps(os.path.abspath(path))}}}, " if path else ""


def _launch(name: str, command: Sequence[str]) -> psutil.Process:
    with (_directory() / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | WITHOUT_JOB,
        )
    # The process goes on without this one. The thread reaps it if it ends before this process.
    threading.Thread(target=process.wait, name=f"orion-{name}-reaper", daemon=True).start()
    return psutil.Process(process.pid)


def _await_listening(process: psutil.Process, port: int) -> None:
    give_up = time.monotonic() + _START_TIMEOUT_S
    while not is_taken(port):
        if not is_alive(process) or time.monotonic() > give_up:
            stopped = "has ended" if not is_alive(process) else f"does not listen after {_START_TIMEOUT_S:.0f} s"
            raise ServiceFailedError(f"the process for port {port} {stopped}; {_directory()} holds its log")
        time.sleep(_LOOK_EVERY_S)


def _directory() -> Path:
    return orion_home() / "local" / "monitoring"


def _state_file() -> Path:
    return _directory() / "processes.json"
