"""Development Kafka (`up`, `down`, `status`): the one cluster that outlives the command that started it."""

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orion_beam.defaults import BROKER_PORT
from orion_beam.errors import ServiceFailedError, UserError
from orion_beam.runners.jars.build import Report, orion_home, silent
from orion_beam.runners.local.broker import BROKER_STOP_TIMEOUT_S, Ports, is_taken
from orion_beam.runners.local.kafka import LocalKafka, kept_brokers
from orion_beam.runners.local.processes import find_alive

_LOOK_EVERY_S = 0.05


class BrokerProcess(BaseModel):
    """A broker that `up` started.

    Attributes:
        number: Node id.
        pid: Process id.
        created_s: Creation time of the process, in seconds since the epoch. A later process of the same id has another.
        ports: Ports at which the broker listens.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    pid: int
    created_s: float
    ports: Ports

    @property
    def running(self) -> bool:
        """Whether this very process still runs."""
        return find_alive(self.pid, self.created_s) is not None


class LocalState(BaseModel):
    """The cluster that `up` started; the content of its state file.

    Attributes:
        brokers: Brokers of the cluster.
        bootstrap_servers: Addresses of the brokers.
        data_dir: Directory of data and logs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    brokers: tuple[BrokerProcess, ...] = Field(min_length=1)
    bootstrap_servers: str
    data_dir: str

    @property
    def running(self) -> tuple[BrokerProcess, ...]:
        """The brokers that still run."""
        return tuple(broker for broker in self.brokers if broker.running)

    @property
    def metrics_ports(self) -> list[int]:
        """Ports of the brokers that serve metrics."""
        return [broker.ports.metrics for broker in self.brokers if broker.ports.metrics is not None]


def up(
    port: int | None = BROKER_PORT,
    heap: str | None = None,
    report: Report = silent,
    brokers: int | None = None,
    metrics: bool = False,
) -> tuple[LocalState, bool]:
    """Start the development cluster, or those of its brokers that do not run.

    A cluster that ended without `down` starts again at its old ports, unless another process listens there now.

    Args:
        port: Port of the first broker, which the others' ports follow; None picks free ports. Without effect on a
            cluster that is running.
        heap: Largest heap of each JVM.
        report: Receives progress lines.
        brokers: Number of brokers; None means as many as the kept data belong to, or one.
        metrics: Whether brokers serve their metrics to Prometheus. Without effect on a cluster that is running.

    Returns:
        The cluster, and whether this call started a broker.

    Raises:
        PrerequisiteError: Java is missing, or a port is taken.
        UserError: The cluster has another number of brokers.
        ServiceFailedError: A broker does not start. The message shows the end of its log.
    """
    with _locked():
        directory = _directory() / "kafka"
        kept = kept_brokers(directory)
        if brokers is not None and kept not in (None, brokers):
            raise UserError(
                f"the local Kafka has {kept} broker(s), not {brokers}: delete it with"
                " `orion-beam local down --purge`, or leave out --brokers"
            )
        state = _remembered()
        running = () if state is None else state.running
        if state is not None and running == state.brokers:
            return state, False
        count = len(state.brokers) if state is not None and running else brokers or kept or 1
        cluster = LocalKafka(directory, port, heap, brokers=count, detached=True, metrics=metrics)
        if state is not None and (running or _can_come_back(state, count, port, metrics)):
            report(f"{len(running)} of {count} broker(s) are running: starting the others where they were")
            gone = [broker.number for broker in state.brokers if broker not in running]
            cluster.rejoin([broker.ports for broker in state.brokers], gone, report)
        else:
            cluster.start(report)
        try:
            state = _state_of(cluster, running)
            _write_state(state)
        except BaseException:
            cluster.stop()  # without a state file, no command could find the cluster again
            raise
        cluster.disown()
        return state, True


def down(purge: bool = False) -> bool:
    """Stop the development cluster.

    Args:
        purge: Whether to delete the cluster's data, too.

    Returns:
        Whether a cluster was running.
    """
    with _locked():
        state = status()
        if state is not None:
            _end(state.running)
        _state_file().unlink(missing_ok=True)
        if purge:
            shutil.rmtree(_directory() / "kafka", ignore_errors=True)
        return state is not None


def status() -> LocalState | None:
    """Return the development cluster; None when none of its brokers runs, even if a state file is left."""
    state = _remembered()
    return state if state is not None and state.running else None


def _remembered() -> LocalState | None:
    """Return the cluster of the state file, which `up` writes and `down` removes; its brokers may have ended since."""
    try:
        return LocalState.model_validate_json(_state_file().read_text())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise UserError(f"{_state_file()} is not a state file: delete it") from None


def _can_come_back(state: LocalState, count: int, port: int | None, metrics: bool) -> bool:
    """Return whether a cluster that has ended fits the wanted settings and can get all of its old ports."""
    if len(state.brokers) != count or port not in (None, state.brokers[0].ports.broker):
        return False
    if metrics and not state.metrics_ports:
        return False
    were_used = [each for broker in state.brokers for each in asdict(broker.ports).values() if each is not None]
    return not any(map(is_taken, were_used))


def _state_of(cluster: LocalKafka, running: Sequence[BrokerProcess]) -> LocalState:
    """Return the state to write for a cluster.

    Args:
        cluster: The cluster, all of whose brokers run now.
        running: The brokers that ran before this command, which started the others.
    """
    processes = {broker.number: broker for broker in running}
    for broker, ports in zip(cluster.brokers, cluster.ports, strict=True):
        if broker.number in processes:
            continue
        with suppress(psutil.NoSuchProcess):
            created_s = psutil.Process(broker.pid).create_time()
            started = BrokerProcess(number=broker.number, pid=broker.pid, created_s=created_s, ports=ports)
            if started.running:
                processes[broker.number] = started
                continue
        raise ServiceFailedError(f"the local Kafka ended right after its start (log: {broker.log_file})")
    return LocalState(
        brokers=tuple(processes[broker.number] for broker in cluster.brokers),
        bootstrap_servers=cluster.bootstrap_servers,
        data_dir=str(cluster.data_dir),
    )


def _directory() -> Path:
    return orion_home() / "local"


def _state_file() -> Path:
    return _directory() / "state.json"


def _write_state(state: LocalState) -> None:
    temporary = _state_file().with_suffix(".tmp")
    temporary.write_text(state.model_dump_json(indent=2) + "\n")
    temporary.replace(_state_file())


@contextmanager
def _locked() -> Iterator[None]:
    """Let one command at a time start or stop the development cluster."""
    _directory().mkdir(parents=True, exist_ok=True)
    with (_directory() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _end(brokers: Sequence[BrokerProcess]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for broker in brokers:
            with suppress(ProcessLookupError):
                if broker.running:
                    os.kill(broker.pid, number)
        give_up = time.monotonic() + BROKER_STOP_TIMEOUT_S
        while any(broker.running for broker in brokers) and time.monotonic() < give_up:
            time.sleep(_LOOK_EVERY_S)
    for broker in brokers:
        if broker.running:
            raise ServiceFailedError(f"process {broker.pid}, a broker of the local Kafka, does not end")
