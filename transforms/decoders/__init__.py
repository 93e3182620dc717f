"""The decoders, one file a raw format: each claims the payloads of its format and turns them into columns of text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from schemas.raw import RawFormat
from transforms.payloads import Payloads
from transforms.texts import Mask


class Decoded(NamedTuple):
    """What a decoder reads out of payloads.

    Attributes:
        texts: string columns of `schemas.cdr.DecodedFields`, without blanks around, null where blank; those that are
            not there are null.
        is_malformed: payloads that are not of the format after all; their texts mean nothing.
        is_for_others: payloads that turned out to be for the decoders behind this one; None for none of them.
    """

    texts: Mapping[str, pa.StringArray]
    is_malformed: Mask
    is_for_others: Mask | None = None


@dataclass(frozen=True)
class Decoder:
    """How to tell and read one raw format.

    Attributes:
        format: the format's name.
        claims: says which of some payloads, none of them empty, are its own.
        decode: reads payloads that were claimed.
        column_names: the line that a file of this format may begin with, if there is one.
    """

    format: RawFormat
    claims: Callable[[Payloads], Mask]
    decode: Callable[[Payloads], Decoded]
    column_names: str | None = None
