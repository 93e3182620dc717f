"""The raw formats, one module each: its row model, which payloads are its own, and how they become columns of text.

A module that holds a `FORMAT` is a raw format; `decoders.registry` finds it here, and profiles call it by its name.
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
    """What a decoder reads out of payloads.

    Attributes:
        texts: string columns of `cdr.DecodedFields`, without blanks around, null where blank; those that are
            not there are null.
        is_malformed: payloads that are not of the format after all; their texts mean nothing.
        is_for_others: payloads that turned out to be for the formats behind this one; None for none of them.
        unknown: names of members that are not read, and how many of the payloads have each; of payloads that are read
            row by row, only some are looked at.
    """

    texts: Mapping[str, pa.StringArray]
    is_malformed: Mask
    is_for_others: Mask | None = None
    unknown: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class RawFormat:
    """How to tell and read one raw format.

    Attributes:
        name: what profiles and CDRs call it, and the name of its module.
        row_model: its record as the standards have it, the oracle of the decoder.
        claims: says which of some payloads, none of them empty, are its own.
        decode: reads payloads that were claimed.
        column_names: the line that a file of this format may begin with, if there is one.
        is_told_by_first_byte: it is looked for before the formats that are told by a separator somewhere inside.
        is_sent_by_all: every country may send it; a profile need not name it.
        has_event_time: a record says when its event was; else the Kafka timestamp does.
        layout: where fields stand, for whoever mends or pseudonymises records; without one, nobody can.
    """

    name: str
    row_model: type[RawRow]
    claims: Callable[[Payloads], Mask]
    decode: Callable[[Payloads], Decoded]
    column_names: str | None = None
    is_told_by_first_byte: bool = False
    is_sent_by_all: bool = False
    has_event_time: bool = True
    layout: Layout | None = None

    @property
    def has_event_type(self) -> bool:
        """Whether every record says of which kind the event is; else one that does not is taken for data usage."""
        field = self.row_model.model_fields.get("event_type")
        return field is not None and field.annotation is str


def read_separated(payloads: Payloads, layout: Separated) -> tuple[dict[str, pa.StringArray], npt.NDArray[np.int64]]:
    """Return the fields of payloads by their names, and how many separators more than expected each payload has."""
    fields, separators = payloads.split(layout.separator.encode(), len(layout.fields))
    return dict(zip(layout.fields, fields, strict=True)), separators - (len(layout.fields) - 1)
