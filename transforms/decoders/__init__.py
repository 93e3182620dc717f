"""The raw formats: the test for the payloads of each, and its decoder to columns of text.

Each is declared in a file: `shipped/NAME.toml`, or `formats/NAME.toml` of a user's own. `declared` compiles it,
`registry` finds it, and country profiles name it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa

from orion_beam.schemas.raw_formats.declaration import FormatDeclaration
from orion_beam.transforms.arrow.texts import Mask
from orion_beam.transforms.decoders.layouts import Layout
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
        unmapped: Whether a payload has a value that the format's map does not list, by the field that the map gives.
    """

    texts: Mapping[str, pa.StringArray]
    is_malformed: Mask
    is_for_others: Mask | None = None
    unknown: Mapping[str, int] = MappingProxyType({})
    unmapped: Mapping[str, Mask] = MappingProxyType({})


@dataclass(frozen=True)
class RawFormat:
    """A raw format: how to recognize and decode it.

    Attributes:
        declaration: The declaration of the format.
        claims: Function that returns which payloads are of this format. None of the payloads is empty.
        decode: Function that decodes claimed payloads.
        layout: Positions of the fields, needed to mend or pseudonymise records.
        column_names: The header line that a file of this format may begin with; None if there is none.
    """

    declaration: FormatDeclaration
    claims: Callable[[Payloads], Mask]
    decode: Callable[[Payloads], Decoded]
    layout: Layout
    column_names: str | None = None

    @property
    def name(self) -> str:
        """Name in profiles and CDRs."""
        return self.declaration.name

    @property
    def is_told_by_first_byte(self) -> bool:
        """Whether the first byte identifies the format.

        Such formats are tried before those that a separator inside the payload identifies.
        """
        return self.declaration.kind == "json" or self.declaration.recognised_by.begins_with is not None

    @property
    def has_event_type(self) -> bool:
        """Whether every record holds an event type. In other formats a record without one is taken for data usage."""
        return self.declaration.has_event_type

    @property
    def has_event_time(self) -> bool:
        """Whether a record holds its event time; if not, the Kafka timestamp is used."""
        return self.declaration.has_event_time
