"""TagPartials: marks each CDR as the first, an intermediate, the last or the only record of its session (TS 32.298).

A long session gives several records with running numbers. The last one is closed because the session ends. The number
and the cause of a record are enough, so nothing is remembered from one record to the next.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from orion_beam.schemas.cdr import NORMALIZED_SCHEMA
from orion_beam.schemas.codes import Stage
from orion_beam.transforms.arrow.texts import is_in, mask_of, take_texts
from orion_beam.transforms.stage.batches import SplitBatch, batch_of, columns_of
from orion_beam.transforms.stage.extra_columns import with_extra_columns
from orion_beam.transforms.stage.rejects import no_rejects
from orion_beam.transforms.stage.split import Split, StageTransform

PARTIALS_STEP = "tag_partials"
"""Name of the transform in the worker's metrics."""

CAUSES_OF_END = pa.array([0, 3, 4, 5, 52, 53, 54, 58], pa.int64())
"""Causes for record closing that end a session: normal release, unsuccessful call attempt, abnormal release, CAMEL
initiated call release, and the four failures of location services (CauseForTerm)."""

CAUSES_OF_PARTIAL = pa.array([1, 2, *range(16, 28), 59], pa.int64())
"""Causes for record closing after which the session goes on in a new record: partial record, re-establishment of a
call, those of TS 32.298 from 16 on (volume, time, serving node, charging conditions, management intervention, change of
system, RAT, time zone, PLMN, S-GW, APN-AMBR, exception data counter), and the list of downstream nodes."""

_KINDS = pa.array(["first", "intermediate", "last", "complete"])
_FIRST, _INTERMEDIATE, _LAST, _COMPLETE = range(len(_KINDS))
_UNKNOWN = -1


def partials_of(causes: pa.Int64Array, numbers: pa.Int64Array) -> pa.StringArray:
    """Return the position of each record in its session; null if cause and number do not determine it.

    Args:
        causes: Cause for record closing. If it is null or unknown, more records may follow or not.
        numbers: Record sequence number, from 1; 0 is invalid. Only partial records have one, so a record without a
            number that ends the session is the only one.
    """
    if causes.null_count == len(causes):
        return pa.nulls(len(causes), pa.string())
    ends, continues = is_in(causes, CAUSES_OF_END), is_in(causes, CAUSES_OF_PARTIAL)
    values = numbers.fill_null(1).to_numpy()
    is_numbered = mask_of(numbers.is_valid())
    conditions = {
        _COMPLETE: ends & (values == 1),
        _LAST: ends & (values > 1),
        _FIRST: continues & is_numbered & (values == 1),
        _INTERMEDIATE: continues & is_numbered & (values > 1),
    }
    kinds = np.select(list(conditions.values()), [np.int8(kind) for kind in conditions], np.int8(_UNKNOWN))
    return take_texts(_KINDS, kinds)


def tag_partials(batch: pa.RecordBatch) -> SplitBatch:
    """Set the column `partial`.

    Args:
        batch: Rows of `cdr.NORMALIZED_SCHEMA`.

    Returns:
        All rows, accepted and in order.
    """
    columns = columns_of(batch)
    columns["partial"] = partials_of(columns["cause_for_record_closing"], columns["record_sequence_number"])
    return SplitBatch(batch_of(columns, with_extra_columns(NORMALIZED_SCHEMA, batch)), no_rejects())


@dataclass(eq=False)
class TagPartials(StageTransform):
    """Marks each CDR as the first, an intermediate, the last or the only record of its session.

    In: `pa.RecordBatch` of `cdr.NORMALIZED_SCHEMA`. Out: StageOutput of accepted batches (the same schema, `partial`
    set) and dead letters (only `internal_error`, a bug). Each row goes to exactly one of the two, and rows keep their
    order. The result depends on the row alone: its Cause for Record Closing and Record Sequence Number (3GPP
    TS 32.298).
    """

    stage = Stage.ENRICH

    @property
    def counted_as(self) -> str:
        """The step's name in the worker's metrics."""
        return PARTIALS_STEP

    def prepare(self) -> Split:
        """Return the function over a batch."""
        return tag_partials
