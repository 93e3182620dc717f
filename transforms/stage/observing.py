"""Where a worker's metrics hook into the stages: one observer a process, none by default, which costs nothing."""

from typing import Protocol

import pyarrow as pa

from orion_beam.transforms.stage.batches import SplitBatch


class StageObserver(Protocol):
    """Is told of every batch that a stage has split, right after it has."""

    def stage_done(self, step: str, batch: pa.RecordBatch, outcome: SplitBatch, seconds: float) -> None:
        """Take a batch, what became of it, and how long that took. It is called from Beam's threads.

        Args:
            step: the stage's name or, of a transform that is part of one, its own, see `StageTransform.counted_as`.
            batch: what came in.
            outcome: what it became.
            seconds: the time that took.
        """


_observer: StageObserver | None = None


def observe(observer: StageObserver | None) -> None:
    """Have this process' stages tell `observer`; None: nobody."""
    global _observer
    _observer = observer


def observer() -> StageObserver | None:
    """Return who is to be told, if anybody."""
    return _observer
