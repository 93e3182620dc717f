"""What the code of a stage uses: `custom_stage` says its codes and fields, `split` makes its output."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, ValidationInfo

from orion_beam.schemas.codes import CustomCode
from orion_beam.transforms.arrow.texts import Mask, mask_of
from orion_beam.transforms.stage.batches import SplitBatch, filter_rows
from orion_beam.transforms.stage.exceptions import BrokenContractError
from orion_beam.transforms.stage.rejects import Violation, dead_letters, no_rejects

__all__ = ["Reject", "WorkspacePath", "custom_stage", "split"]

_Stage = TypeVar("_Stage", bound=Callable[..., Any])

CODES_ATTRIBUTE = "orion_codes"
FIELDS_ATTRIBUTE = "orion_fields"
AFTER_ATTRIBUTE = "orion_after"
_PLACES = ("validate", "normalize", "enrich")


def _in_workspace(path: str, info: ValidationInfo) -> str:
    root = (info.context or {}).get("root")
    return path if root is None or "://" in path else str(Path(root, path))


WorkspacePath = Annotated[str, AfterValidator(_in_workspace)]
"""Type of an option that is a path. A relative path begins at the workspace; an address such as `gs://…` stays."""


def custom_stage(
    *,
    codes: Mapping[str, str] | None = None,
    fields: Mapping[str, type] | None = None,
    after: Collection[str] = _PLACES,
) -> Callable[[_Stage], _Stage]:
    """Say which codes and fields a stage has, and where it may run. A stage without any needs no decorator.

    The decorator leaves the function or class as it is, so that tests call it directly.

    Args:
        codes: Meaning of each code with which the stage rejects rows. A dead letter has it as `STAGE.code`.
        fields: Type of each field that the stage adds: str, int, float, bool, datetime or date. Each is a column that
            the stage appends to the batch, and a nullable field of the block `STAGE` of cdr.final.
        after: Stages that it may follow.

    Raises:
        TypeError: `codes` or `fields` is no mapping.
        ValueError: `after` is not a collection of these stages.
    """
    for name, value in (("codes", codes), ("fields", fields)):
        if not isinstance(value or {}, Mapping):
            raise TypeError(f"{name} of custom_stage: expected a dict, got a {type(value).__name__}")
    if isinstance(after, str) or not after or not set(after) <= set(_PLACES):
        raise ValueError(f"after of custom_stage: expected some of {', '.join(_PLACES)}, in a tuple")

    def described(stage: _Stage) -> _Stage:
        setattr(stage, CODES_ATTRIBUTE, dict(codes or {}))
        setattr(stage, FIELDS_ATTRIBUTE, dict(fields or {}))
        setattr(stage, AFTER_ATTRIBUTE, tuple(after))
        return stage

    return described


class Reject(NamedTuple):
    """Rows to reject, and why.

    Attributes:
        code: One of the stage's codes, without the stage's name.
        field: Name of the field that is at fault; `value` if it is the record as a whole.
        rows: True for each row to reject; null counts as false.
    """

    code: str
    field: str
    rows: Mask | pa.BooleanArray


def split(batch: pa.RecordBatch, *rejects: Reject) -> SplitBatch:
    """Return the output of a stage: the rows of a batch without the rejected ones, and a dead letter for each of these.

    Args:
        batch: The input batch, perhaps with changed or further columns.
        rejects: Rows to reject. A row in several of them has all of their codes, in this order.

    Raises:
        BrokenContractError: The rows of a reject are not as many as those of the batch.
    """
    masks = [_mask(reject, batch) for reject in rejects]
    is_rejected = np.logical_or.reduce(masks) if masks else np.zeros(batch.num_rows, np.bool_)
    if not is_rejected.any():
        return SplitBatch(batch, no_rejects())
    reasons = [Violation(CustomCode(reject.code, ""), reject.field) for reject in rejects]
    broken = zip(*(mask[is_rejected].tolist() for mask in masks), strict=True)
    violations = [tuple(reason for reason, is_so in zip(reasons, row, strict=True) if is_so) for row in broken]
    # The chain sets the stage's name, and puts it before each code.
    letters = dead_letters(filter_rows(batch, is_rejected), "", violations)
    return SplitBatch(filter_rows(batch, ~is_rejected), letters)


def _mask(reject: Reject, batch: pa.RecordBatch) -> Mask:
    rows = reject.rows
    if isinstance(rows, pa.ChunkedArray):
        rows = rows.combine_chunks()
    mask = mask_of(rows.fill_null(False)) if isinstance(rows, pa.Array) else np.asarray(rows, np.bool_)
    if mask.shape != (batch.num_rows,):
        raise BrokenContractError(f"the rows of the code {reject.code} are not as many as those of the batch")
    return mask
