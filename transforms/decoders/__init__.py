"""The raw formats, one module each: its row model, the test for its payloads, and its decoder to columns of text.

Each module with a `FORMAT` is a raw format. `decoders.registry` finds it, and country profiles name it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from orion_beam.schemas.raw import RawRow
from orion_beam.transforms.arrow.texts import Mask
from orion_beam.transforms.decoders.layouts import Layout, Separated
from orion_beam.transforms.decoders.payloads import Payloads


class Decoded(NamedTuple):
    """Output of a decoder.

    Attributes:
        texts: String columns of `cdr.DecodedFields`, without surrounding blanks; a blank text is null. A column that
            is absent is null in all rows.
        is_malformed: Whether a payload breaks the format. The texts of such a payload are undefined.
        is_for_others: Whether a payload belongs to a format that comes later in the order; None if no payload does.
        unknown: Number of payloads by name of an unread member. Of the payloads that are parsed row by row, only some
            are searched for such names.
    """

    texts: Mapping[str, pa.StringArray]
    is_malformed: Mask
    is_for_others: Mask | None = None
    unknown: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class RawFormat:
    """A raw format: how to recognize and decode it.

    Attributes:
        name: Name in profiles and CDRs, and name of the module.
        row_model: Pydantic model of a record. Tests compare the decoder with it.
        claims: Function that returns which payloads are of this format. None of the payloads is empty.
        decode: Function that decodes claimed payloads.
        is_told_by_first_byte: Whether the first byte identifies the format. Such formats are tried before those that a
            separator inside the payload identifies.
        is_sent_by_all: Whether every country may send the format. Profiles need not name it.
        has_event_time: Whether a record holds its event time; if not, the Kafka timestamp is used.
        layout: Positions of the fields, needed to mend or pseudonymise records; None if that is not supported.
    """

    name: str
    row_model: type[RawRow]
    claims: Callable[[Payloads], Mask]
    decode: Callable[[Payloads], Decoded]
    is_told_by_first_byte: bool = False
    is_sent_by_all: bool = False
    has_event_time: bool = True
    layout: Layout | None = None

    @property
    def column_names(self) -> str | None:
        """The header line that a file of this format may begin with; None if there is none."""
        return self.layout.header if isinstance(self.layout, Separated) else None

    @property
    def has_event_type(self) -> bool:
        """Whether every record holds an event type. In other formats a record without one is taken for data usage."""
        field = self.row_model.model_fields.get("event_type")
        return field is not None and field.annotation is str


def read_separated(payloads: Payloads, layout: Separated) -> tuple[dict[str, pa.StringArray], npt.NDArray[np.int64]]:
    """Split payloads at the separator. Return the fields by name, and each payload's number of surplus separators."""
    fields, separators = payloads.split(layout.separator.encode(), len(layout.fields))
    return dict(zip(layout.fields, fields, strict=True)), separators - (len(layout.fields) - 1)
