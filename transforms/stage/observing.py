"""The hook of a worker's metrics into the stages: one observer a process. By default there is none, at no cost."""

from typing import Protocol

import pyarrow as pa

from orion_beam.transforms.stage.batches import SplitBatch


class StageObserver(Protocol):
    """Receiver of a call for every batch that a stage has processed."""

    def stage_done(self, step: str, batch: pa.RecordBatch, outcome: SplitBatch, seconds: float) -> None:
        """Record a processed batch. It is called from Beam's threads.

        Args:
            step: Name of the stage, or of the transform that is part of a stage, see `StageTransform.counted_as`.
            batch: Input batch.
            outcome: Output for the batch.
            seconds: Processing time.
        """


_observer: StageObserver | None = None


def observe(observer: StageObserver | None) -> None:
    """Set the observer of this process' stages; None removes it."""
    global _observer
    _observer = observer


def observer() -> StageObserver | None:
    """Return the observer of this process' stages, or None."""
    return _observer
