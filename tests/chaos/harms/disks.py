"""Disks that run full."""

from tests.chaos.harms.base import Harm
from tests.chaos.harms.brokers import rejoin
from tests.chaos.system import BROKERS, System

FULL_S = 30.0
_NO_MOUNT = "this user may not mount a small file system"


class CheckpointDiskFull(Harm):
    """The disk of the checkpoints is full for 30 s."""

    kind = "checkpoint-disk-full"
    lasts_s = FULL_S

    def impossible(self, system: System) -> str | None:
        return None if system.checkpoint_disk.is_mounted else _NO_MOUNT

    def cause(self, system: System) -> None:
        system.checkpoint_disk.fill()

    def undo(self, system: System) -> None:
        system.checkpoint_disk.clear()


class BrokerDiskFull(Harm):
    """The disk of a broker is full for 30 s. A broker whose only disk fails ends; it is started again."""

    kind = "broker-disk-full"
    lasts_s = FULL_S

    def impossible(self, system: System) -> str | None:
        return None if system.broker_disk.is_mounted else _NO_MOUNT

    def cause(self, system: System) -> None:
        system.broker_disk.fill()

    def undo(self, system: System) -> None:
        system.broker_disk.clear()
        if not system.kafka.brokers[BROKERS[-1] - 1].is_running:
            self.target = "the broker ended"
            rejoin(system, BROKERS[-1])


DISK_HARMS: tuple[type[Harm], ...] = (CheckpointDiskFull, BrokerDiskFull)
