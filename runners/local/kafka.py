"""Real Kafka on this machine, for development and tests: one broker or several, bound to the loopback interface."""

import base64
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orion_beam.errors import PrerequisiteError, ServiceFailedError, UserError
from orion_beam.kafka.admin import admin_client
from orion_beam.runners.jars.build import Jars, Report, ensure_jars, silent
from orion_beam.runners.local.broker import HOST, Broker, Ports, free_ports, is_taken
from orion_beam.topics.catalogue import MIN_INSYNC, load_catalogue
from orion_beam.topics.names import profile_for

JMX_RULES = Path(__file__).parents[1] / "monitoring" / "jmx.yml"
METRICS_PORT = 9312
"""Port of the first broker's metrics, followed by the others'. If one of them is taken, all brokers use free ports."""

KAFKA_START_TIMEOUT_S = 300.0

_PORT_ATTEMPTS = 5
_LOG_TAIL_LINES = 12
_LOOK_EVERY_S = 0.05
_HEAP_OF_ONE = "768m"
_HEAP_OF_SEVERAL = "384m"
# Serial collector: G1 treats batches of a megabyte as humongous objects and keeps marking. No optimizing compiler: in
# the first minutes it costs the job beside it more CPU than it saves. Huge pages: memory in small pages is slow to get.
_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+UseTransparentHugePages")

_LOCAL_SETTINGS = {
    "auto.create.topics.enable": "false",
    "unclean.leader.election.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    # A broker that was killed can rejoin when its old session has timed out. On a busy machine, a broker that lives
    # misses heartbeats for seconds; with a short session it would lose the lead of its partitions again and again.
    "broker.session.timeout.ms": "10000",
    "broker.heartbeat.interval.ms": "1000",
    # On a busy machine, controllers take longer than the default of a minute to elect a leader.
    "initial.broker.registration.timeout.ms": str(round(KAFKA_START_TIMEOUT_S * 1_000)),
    # Kafka's internal topics have 50 partitions by default.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
}


class _PortTakenError(Exception):
    """Another process listens on a broker's port."""


class LocalKafka:
    """A Kafka cluster of one broker or several. Its data stay in `data_dir` from run to run.

    Unless `detached`, it ends with this process, even when this process is killed. Three brokers or more get the
    settings of the catalogue's production profile, fewer those of its development profile.

    Args:
        data_dir: Directory for data, settings and logs; created when missing.
        port: Port of the first broker, which the others' ports follow; None picks free ports at each start.
        heap: Largest heap of each JVM; by default 768 MiB, or 384 MiB with several brokers.
        settings: Kafka settings of each broker; they override those of the profile.
        brokers: Number of brokers. Each is a controller, too, so a majority of them must run.
        detached: Whether the brokers go on when this process ends, in sessions of their own.
        metrics: Whether each broker serves its metrics to Prometheus, on a port of its own.
        advertised: Ports at which clients and other brokers reach the brokers, one for each, such as those of proxies;
            by default the brokers' own.

    Attributes:
        brokers: Brokers in the order of their numbers, from 1.
        ports: Ports of each broker; empty before the first start.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        heap: str | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        brokers: int = 1,
        detached: bool = False,
        metrics: bool = False,
        advertised: Sequence[int] = (),
    ) -> None:
        """Store the settings; `start` starts the brokers."""
        self._metrics = metrics
        self._advertised = tuple(advertised)
        self.data_dir = Path(data_dir).absolute()
        self._wanted_port = port
        self._own_settings = settings or {}
        self.ports: tuple[Ports, ...] = ()
        most = heap or (_HEAP_OF_ONE if brokers == 1 else _HEAP_OF_SEVERAL)
        jvm = (f"-Xmx{most}", *_JVM)
        directories = [self.data_dir] if brokers == 1 else [self.data_dir / f"broker-{n + 1}" for n in range(brokers)]
        self.brokers = tuple(
            Broker(number, directory, jvm, detached) for number, directory in enumerate(directories, start=1)
        )

    @property
    def bootstrap_servers(self) -> str:
        """Addresses of the brokers, for clients' `bootstrap.servers`."""
        if not self.ports:
            raise RuntimeError("the broker has not been started")
        return ",".join(f"{HOST}:{port}" for port in self._advertised or [ports.broker for ports in self.ports])

    def start(self, report: Report = silent) -> Self:
        """Start the brokers, all at once, and wait until they answer.

        Raises:
            PrerequisiteError: Java is missing, or a port is taken.
            UserError: The directory holds the data of another number of brokers.
            ServiceFailedError: A broker does not start. The message shows the end of its log.
        """
        if any(broker.is_running for broker in self.brokers):
            raise RuntimeError("the broker is running already")
        kept = kept_brokers(self.data_dir)
        if kept not in (None, len(self.brokers)):
            raise UserError(f"{self.data_dir} holds the data of {kept} broker(s), not {len(self.brokers)}: delete it")
        jars = ensure_jars(report)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for _ in range(_PORT_ATTEMPTS):
            self.ports = self._choose_ports()
            try:
                self._launch(self.brokers, jars)
                self._await_ready()
            except _PortTakenError:
                self.kill()
                continue
            except BaseException:
                self.kill()
                raise
            return self
        raise self._failure("found no free port", self.brokers[0])

    def rejoin(self, ports: Sequence[Ports], gone: Iterable[int], report: Report = silent) -> Self:
        """Start the brokers of a cluster that have ended, at their old ports, and wait until all brokers answer.

        Args:
            ports: Ports of all brokers.
            gone: Numbers, from 1, of the brokers to start.
            report: Receives progress lines.

        Raises:
            PrerequisiteError: Java is missing.
            ServiceFailedError: A broker does not start. The message shows the end of its log.
        """
        self.ports = tuple(ports)
        jars = ensure_jars(report)
        started = [self.brokers[number - 1] for number in gone]
        try:
            self._launch(started, jars)
            self._await_ready()
        except _PortTakenError:
            self.kill()
            raise self._failure("another process listens on its port", started[0]) from None
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Shut the brokers down, so that their data are complete on disk; kill a broker that takes too long."""
        for broker in self.brokers:
            broker.terminate()
        for broker in self.brokers:
            broker.await_end()

    def kill(self) -> None:
        """End the brokers as a crash would. Their data survive."""
        for broker in self.brokers:
            broker.kill()

    def kill_broker(self, number: int) -> None:
        """End one broker, from 1, as a crash would. The others go on."""
        self.brokers[number - 1].kill()

    def disown(self) -> None:
        """Forget detached brokers, which go on without this process."""
        for broker in self.brokers:
            broker.disown()

    def __enter__(self) -> Self:
        """Start the brokers, unless they are running."""
        return self if self.brokers[0].is_running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the brokers."""
        self.stop()

    def _choose_ports(self) -> tuple[Ports, ...]:
        count = len(self.brokers)
        wanted = range(0) if self._wanted_port is None else range(self._wanted_port, self._wanted_port + count)
        taken = [port for port in wanted if is_taken(port)]
        if taken:
            raise PrerequisiteError(
                f"port {taken[0]} is in use: stop what listens there, or choose another with --port"
            )
        usual = range(METRICS_PORT, METRICS_PORT + count)
        free = iter(set(free_ports(5 * count)) - {*wanted, *usual})
        clients = wanted or [next(free) for _ in self.brokers]
        controllers = [next(free) for _ in self.brokers]
        if not self._metrics:
            return tuple(map(Ports, clients, controllers))
        scraped = [next(free) for _ in self.brokers] if any(map(is_taken, usual)) else usual
        return tuple(map(Ports, clients, controllers, scraped))

    def _launch(self, brokers: Sequence[Broker], jars: Jars) -> None:
        settings = self._settings()
        for broker in brokers:
            broker.configure(self.ports[broker.number - 1], settings | self._told_port(broker))
        unformatted = [broker for broker in brokers if not broker.is_formatted]
        for broker in unformatted:
            broker.format(jars.kafka_classpath, self._cluster_id())
        for broker in unformatted:
            if broker.wait():
                raise self._failure("its storage cannot be formatted", broker)
        for broker in brokers:
            port = self.ports[broker.number - 1].metrics
            agent = [] if port is None else [f"-javaagent:{jars.jmx_agent}={HOST}:{port}:{JMX_RULES}"]
            broker.launch(jars.kafka_classpath, agent)

    def _told_port(self, broker: Broker) -> dict[str, str]:
        if not self._advertised:
            return {}
        return {"advertised.listeners": f"PLAINTEXT://{HOST}:{self._advertised[broker.number - 1]}"}

    def _settings(self) -> dict[str, str]:
        profile = load_catalogue().profile(profile_for(len(self.brokers)))
        replication, in_sync = str(profile.replication), profile.topic_settings[MIN_INSYNC]
        return {
            **_LOCAL_SETTINGS,
            **profile.broker_settings,
            "controller.quorum.voters": ",".join(
                f"{broker.number}@{HOST}:{ports.controller}"
                for broker, ports in zip(self.brokers, self.ports, strict=True)
            ),
            "default.replication.factor": replication,
            MIN_INSYNC: in_sync,
            "offsets.topic.replication.factor": replication,
            "transaction.state.log.replication.factor": replication,
            "transaction.state.log.min.isr": in_sync,
            **self._own_settings,
        }

    def _cluster_id(self) -> str:
        """Return the cluster id of this data directory.

        The id is stored before any broker is formatted, so that formatting can be repeated after an interruption.
        """
        path = self.data_dir / "cluster.id"
        if not path.exists():
            cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            # On a command line, a leading dash looks like an option.
            path.write_text(cluster_id.replace("-", "A"))
        return path.read_text()

    def _await_ready(self) -> None:
        """Wait until each broker answers with this cluster's id, not another cluster's, and knows all brokers."""
        give_up = time.monotonic() + KAFKA_START_TIMEOUT_S
        for broker, ports in zip(self.brokers, self.ports, strict=True):
            admin = admin_client(f"{HOST}:{ports.broker}")
            while not self._is_ready(admin):
                if time.monotonic() > give_up:
                    raise self._failure(f"it does not answer within {KAFKA_START_TIMEOUT_S:.0f} s", broker)
                self._require_running()

    def _is_ready(self, admin: AdminClient) -> bool:
        try:
            metadata = admin.list_topics(timeout=1)
        except KafkaException:
            return False  # list_topics has waited for its second already
        if metadata.cluster_id == self._cluster_id() and len(metadata.brokers) == len(self.brokers):
            return True
        time.sleep(_LOOK_EVERY_S)
        return False

    def _require_running(self) -> None:
        for broker in self.brokers:
            if broker.exit_code is not None:
                if "Address already in use" in broker.log:
                    raise _PortTakenError
                raise self._failure(f"it ended with exit code {broker.exit_code}", broker)

    def _failure(self, reason: str, broker: Broker) -> ServiceFailedError:
        # The lines of stack traces say nothing to a user.
        lines = [line for line in broker.log.splitlines() if not line.startswith("\tat ")]
        tail = "\n".join(lines[-_LOG_TAIL_LINES:])
        return ServiceFailedError(
            f"the local Kafka does not start: {reason}. Its log, {broker.log_file}, ends:\n{tail}"
        )


def kept_brokers(data_dir: Path) -> int | None:
    """Return the number of brokers whose data a directory holds; None for a directory without data."""
    if (data_dir / "data").exists():
        return 1
    return len(list(data_dir.glob("broker-*"))) or None
