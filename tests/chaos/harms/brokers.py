"""Harms to brokers and to what lies between them and their clients."""

import random
from contextlib import suppress

import psutil
from confluent_kafka import ElectionType, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from orion_beam.kafka.admin import admin_client
from tests.chaos.harms.base import Harm
from tests.chaos.harms.processes import _Pause
from tests.chaos.system import BROKERS, PATIENCE_S, System
from tests.integration.harness import await_until

UNREACHABLE_S = 90.0
SLOW_S = 30.0


def _leader(system: System) -> int:
    """Return the broker that leads the source partition with most records."""
    topic, partition = system.feed.hottest()
    admin = admin_client(system.servers)
    found: list[int] = []

    def asked() -> bool:
        with suppress(KafkaException):
            found[:] = [admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader]
        return bool(found) and found[0] in BROKERS

    await_until(asked, PATIENCE_S, f"partition {partition} of {topic} has a leader")
    return found[0]


def rejoin(system: System, *gone: int) -> None:
    """Start brokers again, and wait until all know each other."""
    system.kafka.rejoin(system.kafka.ports, gone)


def await_in_sync(system: System) -> None:
    """Wait until every replica of every partition is in sync, as a careful operator does before the next broker."""
    admin = admin_client(system.servers)

    def in_sync() -> bool:
        with suppress(KafkaException):
            topics = admin.list_topics(timeout=10).topics.values()
            return all(len(part.isrs) == len(part.replicas) for topic in topics for part in topic.partitions.values())
        return False

    await_until(in_sync, PATIENCE_S, "all replicas are in sync")


class KillBroker(Harm):
    """A broker is killed, and started again."""

    kind = "kill-broker"

    def __init__(self, draw: random.Random) -> None:
        self._number = draw.choice(BROKERS)
        self.target = str(self._number)

    def cause(self, system: System) -> None:
        system.kafka.kill_broker(self._number)

    def undo(self, system: System) -> None:
        rejoin(system, self._number)


class _AtHotLeader(Harm):
    """Chooses the broker when the harm begins: the one that leads the fullest raw partition then."""

    def __init__(self, draw: random.Random) -> None:  # noqa: ARG002
        self.target = ""

    def cause(self, system: System) -> None:
        self._number = _leader(system)
        self.target = str(self._number)
        super().cause(system)


class KillHotLeader(_AtHotLeader, KillBroker):
    """The broker that leads the fullest raw partition is killed, and started again."""

    kind = "kill-hot-leader"


class KillTwoBrokers(Harm):
    """Two brokers of three are killed: nothing can be acknowledged until one is back."""

    kind = "kill-two-brokers"
    lasts_s = 10.0

    def __init__(self, draw: random.Random) -> None:
        self._numbers = sorted(draw.sample(BROKERS, 2))
        self.target = " and ".join(map(str, self._numbers))

    def cause(self, system: System) -> None:
        for number in self._numbers:
            system.kafka.kill_broker(number)

    def undo(self, system: System) -> None:
        rejoin(system, *self._numbers)


class StopBroker(_Pause):
    """A broker stands still for 40 s, and is fenced."""

    kind = "stop-broker"

    def __init__(self, draw: random.Random) -> None:
        self._number = draw.choice(BROKERS)
        self.target = str(self._number)

    def cause(self, system: System) -> None:
        self._process = psutil.Process(system.kafka.brokers[self._number - 1].pid)
        self._process.suspend()


class StopHotLeader(_AtHotLeader, StopBroker):
    """The broker that leads the fullest raw partition stands still for 40 s."""

    kind = "stop-hot-leader"


class UnreachableBroker(Harm):
    """No byte reaches a broker's clients and replicas for 90 s. The controllers still see it, so it keeps its leads."""

    kind = "unreachable-broker"
    lasts_s = UNREACHABLE_S

    def __init__(self, draw: random.Random) -> None:
        self._number = draw.choice(BROKERS)
        self._refuses = draw.random() < 0.5
        self.target = f"{self._number}, {'connections are reset' if self._refuses else 'packets are dropped'}"

    def cause(self, system: System) -> None:
        proxy = system.proxies[self._number - 1]
        if self._refuses:
            proxy.refuse()
        else:
            proxy.fall_silent()

    def undo(self, system: System) -> None:
        system.proxies[self._number - 1].recover()


class SlowBroker(Harm):
    """Each piece from and to a broker takes a while, for 30 s."""

    kind = "slow-broker"
    lasts_s = SLOW_S

    def __init__(self, draw: random.Random) -> None:
        self._number = draw.choice(BROKERS)
        self._delay_s = draw.choice((0.05, 0.1, 0.3))
        self.target = f"{self._number}, {self._delay_s:g} s"

    def cause(self, system: System) -> None:
        system.proxies[self._number - 1].slow_down(self._delay_s, 256 << 10)

    def undo(self, system: System) -> None:
        system.proxies[self._number - 1].recover()


class RollingRestart(Harm):
    """One broker after the other shuts down in order and starts again, as for an upgrade of Kafka."""

    kind = "rolling-restart"

    def cause(self, system: System) -> None:
        for number in BROKERS:
            broker = system.kafka.brokers[number - 1]
            broker.terminate()
            broker.await_end()
            rejoin(system, number)
            await_in_sync(system)


class LeaderElections(Harm):
    """Every leader moves several times: a broker shuts down, comes back, and gets its leads back."""

    kind = "leader-elections"

    def __init__(self, draw: random.Random) -> None:
        self._numbers = [draw.choice(BROKERS) for _ in range(2)]
        self.target = " then ".join(map(str, self._numbers))

    def cause(self, system: System) -> None:
        for number in self._numbers:
            broker = system.kafka.brokers[number - 1]
            broker.terminate()
            broker.await_end()
            rejoin(system, number)
            await_in_sync(system)
            _elect_preferred(admin_client(system.servers))


def _elect_preferred(admin: AdminClient) -> None:
    parts = [
        TopicPartition(name, partition)
        for name, topic in admin.list_topics(timeout=60).topics.items()
        for partition in topic.partitions
    ]
    # Those that need no election answer with an error. The binding of confluent-kafka 2.16 refuses a time limit.
    with suppress(KafkaException):
        admin.elect_leaders(ElectionType.PREFERRED, parts).result(120)


BROKER_HARMS: tuple[type[Harm], ...] = (
    KillBroker,
    KillHotLeader,
    KillTwoBrokers,
    StopBroker,
    StopHotLeader,
    UnreachableBroker,
    SlowBroker,
    RollingRestart,
    LeaderElections,
)
