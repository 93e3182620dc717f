"""Two harms at once."""

import random

from tests.chaos.harms.base import Harm
from tests.chaos.harms.brokers import KillBroker, KillHotLeader, SlowBroker, StopBroker
from tests.chaos.harms.processes import (
    KillLeadingJobManager,
    KillPool,
    KillTaskManager,
    KillWorker,
    StopTaskManager,
    StopWorker,
)
from tests.chaos.system import System

_OF_KAFKA = (KillBroker, KillHotLeader, SlowBroker, StopBroker)
_OF_FLINK = (KillTaskManager, KillLeadingJobManager, KillPool, KillWorker, StopTaskManager, StopWorker)


class Together(Harm):
    """A harm to a broker and a harm to the cluster, at once."""

    kind = "two-at-once"

    def __init__(self, draw: random.Random) -> None:
        self._harms = [draw.choice(_OF_KAFKA)(draw), draw.choice(_OF_FLINK)(draw)]
        self.lasts_s = max(harm.lasts_s for harm in self._harms)
        self.target = " + ".join(map(str, self._harms))

    def cause(self, system: System) -> None:
        for harm in self._harms:
            harm.cause(system)
        self.target = " + ".join(map(str, self._harms))

    def undo(self, system: System) -> None:
        for harm in reversed(self._harms):
            harm.undo(system)
