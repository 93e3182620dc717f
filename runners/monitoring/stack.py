"""The development cluster's monitoring: the monitor, and a Prometheus with the alert rules, until it is stopped."""

import json
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

from runners.broker import HOST, STOP_TIMEOUT_S, free_ports, is_taken
from runners.jars import orion_home
from runners.monitoring.alerts import AlertLimits, alert_rules

MONITOR_PORT, WORKERS_PORT, BROKER_PORT, PROMETHEUS_PORT = 9310, 9311, 9312, 9090
"""Where each listens if nobody else does; workers are those of `orion-beam run --metrics-port`."""

_START_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.05

_CONFIG = """\
global: {{scrape_interval: {interval}s, evaluation_interval: {interval}s, scrape_timeout: {interval}s}}
rule_files: [alerts.yml]
scrape_configs:
  - {{job_name: orion-monitor, static_configs: [{{targets: ["{monitor}"]}}]}}
  - {{job_name: orion-workers, static_configs: [{{targets: ["{workers}"]}}]}}
  - {{job_name: kafka, static_configs: [{{targets: {brokers}}}]}}
"""


class Monitoring(NamedTuple):
    """What runs.

    Attributes:
        monitor: URL of the status page.
        prometheus: URL of Prometheus; None: it is not installed.
    """

    monitor: str
    prometheus: str | None


def broker_ports(brokers: int, *, are_running: bool = False) -> list[int]:
    """Return ports at which brokers serve their metrics: the usual ones, or free ones where others have taken those.

    Brokers that are running already have the usual ones, if they have any.
    """
    usual = [BROKER_PORT + number for number in range(brokers)]
    return free_ports(brokers) if not are_running and any(map(is_taken, usual)) else usual


def start_monitoring(
    bootstrap_servers: str,
    data_dir: str,
    metrics_ports: Sequence[int],
    options: Sequence[str] = (),
    limits: AlertLimits | None = None,
    interval_s: int = 5,
    workers_port: int = WORKERS_PORT,
) -> Monitoring:
    """Start the monitor and, where it is installed, Prometheus, in the background. What ran before is stopped.

    Args:
        bootstrap_servers: of the development cluster.
        data_dir: the cluster's; its file system is watched.
        metrics_ports: where the brokers serve their metrics.
        options: for `orion-beam monitor`, besides.
        limits: of the alerts.
        interval_s: between two looks, scrapes and evaluations.
        workers_port: where a job's workers serve their metrics, once there are any.

    Returns:
        Where they listen: they do, by now.

    Raises:
        RuntimeError: one of them does not start; names its log.
    """
    stop_monitoring()
    directory = _directory()
    directory.mkdir(parents=True, exist_ok=True)
    ports = (MONITOR_PORT, WORKERS_PORT, PROMETHEUS_PORT)
    free = free_ports(len(ports))
    monitor_port, _, prometheus_port = (
        other if is_taken(usual) else usual for usual, other in zip(ports, free, strict=True)
    )
    monitor = f"{HOST}:{monitor_port}"
    watch = ["monitor", "--bootstrap-servers", bootstrap_servers, "--listen", monitor, "--disk", data_dir]
    processes = [
        _launch("monitor", [sys.executable, "-m", "orion_beam.cli.main", *watch, f"--interval={interval_s}", *options])
    ]
    prometheus = shutil.which("prometheus")
    if prometheus is not None:
        (directory / "alerts.yml").write_text(alert_rules(limits or AlertLimits(interval=f"{interval_s}s")))
        brokers = json.dumps([f"{HOST}:{port}" for port in metrics_ports])
        config = directory / "prometheus.yml"
        config.write_text(
            _CONFIG.format(interval=interval_s, monitor=monitor, workers=f"{HOST}:{workers_port}", brokers=brokers)
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
    _state_file().write_text(json.dumps([(process.pid, process.create_time()) for process in processes]))
    for process, port in zip(processes, (monitor_port, prometheus_port), strict=False):
        _await_listening(process, port)
    return Monitoring(f"http://{monitor}/", f"http://{HOST}:{prometheus_port}/" if prometheus else None)


def stop_monitoring() -> None:
    """Stop what `start_monitoring` has started, if it still runs. Prometheus' data are deleted."""
    with suppress(FileNotFoundError):
        running = []
        for pid, created in json.loads(_state_file().read_text()):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if process.create_time() == created:
                    process.terminate()
                    running.append(process)
        for process in psutil.wait_procs(running, STOP_TIMEOUT_S)[1]:
            process.kill()
    shutil.rmtree(_directory(), ignore_errors=True)


def _launch(name: str, command: Sequence[str]) -> psutil.Process:
    with (_directory() / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    # It goes on alone. Should it end before this process does, it leaves no zombie.
    threading.Thread(target=process.wait, name=f"orion-{name}-reaper", daemon=True).start()
    return psutil.Process(process.pid)


def _await_listening(process: psutil.Process, port: int) -> None:
    give_up = time.monotonic() + _START_TIMEOUT_S
    while not is_taken(port):
        if not process.is_running() or time.monotonic() > give_up:
            stopped = "has ended" if not process.is_running() else f"does not listen after {_START_TIMEOUT_S:.0f} s"
            raise RuntimeError(f"what was to listen at port {port} {stopped}; {_directory()} holds its log")
        time.sleep(_LOOK_EVERY_S)


def _directory() -> Path:
    return orion_home() / "local" / "monitoring"


def _state_file() -> Path:
    return _directory() / "processes.json"
