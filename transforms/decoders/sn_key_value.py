"""SN's records of `KEY=VALUE` pairs joined by `|`, in any order."""

import numpy as np
import pyarrow as pa

from orion_beam.schemas.fields import Count, EventTime, FreeText, Imei, Imsi, Msisdn, Rat, StatedEventType
from orion_beam.schemas.raw import RawRow
from orion_beam.transforms.arrow.compiled import BYTES, INT64S, TEXTS, Bytes, Mask, Offsets, Texts, compiled, texts_of
from orion_beam.transforms.arrow.texts import equals, is_blank
from orion_beam.transforms.decoders import Decoded, RawFormat
from orion_beam.transforms.decoders.layouts import Pairs
from orion_beam.transforms.decoders.payloads import Payloads, Spans
from orion_beam.transforms.decoders.unread_members import MOST_NAMES, names_of, place_of_name


class SnKeyValueCdr(RawRow):
    """`IMSI=...|MSISDN=...|...`: pairs in any order. The event type is optional."""

    IMSI: Imsi
    MSISDN: Msisdn
    IMEI: Imei
    CELL: FreeText
    RAT: Rat
    UP: Count
    DOWN: Count
    TS: EventTime
    EVENT: StatedEventType


LAYOUT = Pairs(
    "|",
    {
        "imsi": "IMSI",
        "msisdn": "MSISDN",
        "imei": "IMEI",
        "cell_id": "CELL",
        "rat": "RAT",
        "bytes_up": "UP",
        "bytes_down": "DOWN",
        "event_time": "TS",
        "event_type": "EVENT",
    },
)
_NAMES = pa.array(LAYOUT.names.values())
_BAR, _SIGN = map(ord, "|=")


def decode(payloads: Payloads) -> Decoded:
    """Decode key-value records. Unknown keys are ignored; absent keys are null; the first of two equal keys counts."""
    starts, ends, *noted = _values(payloads.data, payloads.starts, payloads.ends, texts_of(_NAMES))
    return Decoded(
        dict(zip(LAYOUT.names, payloads.fields(starts, ends), strict=True)),
        np.zeros(len(payloads), np.bool_),
        unknown=names_of(payloads.data, *noted),
    )


@compiled(BYTES, INT64S, INT64S, TEXTS)
def _values(
    data: Bytes, starts: Offsets, ends: Offsets, names: Texts
) -> tuple[Spans, Spans, Offsets, Offsets, Offsets]:
    """Return the starts and ends of the values, then the starts, ends and counts of unknown names.

        data   IMSI=20801...|UP=12
        value       ^start  ^end

    Starts and ends of values have shape (names, records). An absent name has the end -1. At most MOST_NAMES distinct
    unknown names are kept; the count of an unused entry is 0.
    """
    count = len(names.offsets) - 1
    value_starts, value_ends = np.zeros((count, len(starts)), np.int64), np.full((count, len(starts)), -1, np.int64)
    noted, noted_ends, times = (
        np.zeros(MOST_NAMES, np.int64),
        np.zeros(MOST_NAMES, np.int64),
        np.zeros(MOST_NAMES, np.int64),
    )
    outer, count_noted = np.zeros(MOST_NAMES, np.int64), 0
    for row in range(len(starts)):
        pair = starts[row]
        while pair < ends[row]:
            sign = pair
            while sign < ends[row] and data[sign] != _SIGN and data[sign] != _BAR:
                sign += 1
            bar = sign
            while bar < ends[row] and data[bar] != _BAR:
                bar += 1
            if bar > sign:
                key, key_end = pair, sign
                while key < key_end and is_blank(data[key]):
                    key += 1
                while key < key_end and is_blank(data[key_end - 1]):
                    key_end -= 1
                is_known = False
                for name in range(count):
                    text = names.data[names.offsets[name] : names.offsets[name + 1]]
                    if equals(data, key, key_end, text):
                        if value_ends[name, row] < 0:
                            value_starts[name, row], value_ends[name, row] = sign + 1, bar
                        is_known = True
                        break
                if not is_known:
                    place = place_of_name(data, key, key_end, 0, noted, noted_ends, outer, count_noted)
                    if place < MOST_NAMES:
                        noted[place], noted_ends[place] = key, key_end
                        times[place] += 1
                        count_noted = max(count_noted, place + 1)
            pair = bar + 1
    return value_starts, value_ends, noted, noted_ends, times


def _claims(payloads: Payloads) -> Mask:
    is_pair_first: Mask = payloads.first(b"=") < payloads.first(b"|")
    return is_pair_first


FORMAT = RawFormat("sn_key_value", SnKeyValueCdr, _claims, decode, layout=LAYOUT)
