"""Stages of the user's own: what such a stage is made of, how a job declares it, and how the chain runs it.

A stage's code imports `custom_stage`, `split` and `Reject` from here.
"""

from orion_beam.custom_stages.contract import Reject, WorkspacePath, custom_stage, split
from orion_beam.transforms.stage.batches import SplitBatch

__all__ = ["Reject", "SplitBatch", "WorkspacePath", "custom_stage", "split"]
