"""The kinds of harm. A module holds those of one target, and each class is a kind."""

from tests.chaos.harms.base import Harm
from tests.chaos.harms.brokers import BROKER_HARMS
from tests.chaos.harms.disks import DISK_HARMS
from tests.chaos.harms.jobs import JOB_HARMS
from tests.chaos.harms.processes import PROCESS_HARMS
from tests.chaos.harms.several import Together
from tests.chaos.harms.workers import WORKER_HARMS

_ALL: tuple[type[Harm], ...] = (*PROCESS_HARMS, *BROKER_HARMS, *DISK_HARMS, *JOB_HARMS, *WORKER_HARMS, Together)
KINDS = {harm.kind: harm for harm in _ALL}

__all__ = ["KINDS", "Harm"]
