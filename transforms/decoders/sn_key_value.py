"""SN records of `KEY=VALUE` pairs joined by `|`, in any order."""

import numpy as np
import pyarrow as pa

from schemas.fields import Count, EventTime, FreeText, Imei, Imsi, Msisdn, Rat
from schemas.raw import RawRow
from transforms.decoders import Decoded, RawFormat
from transforms.layouts import Pairs
from transforms.payloads import Payloads
from transforms.texts import Mask, index_in


class SnKeyValueCdr(RawRow):
    """`IMSI=...|MSISDN=...|...`: pairs in any order."""

    IMSI: Imsi
    MSISDN: Msisdn
    IMEI: Imei
    CELL: FreeText
    RAT: Rat
    UP: Count
    DOWN: Count
    TS: EventTime


_KEYS = {
    "imsi": "IMSI",
    "msisdn": "MSISDN",
    "imei": "IMEI",
    "cell_id": "CELL",
    "rat": "RAT",
    "bytes_up": "UP",
    "bytes_down": "DOWN",
    "event_time": "TS",
}
_NAMES = pa.array(_KEYS.values())


def decode(payloads: Payloads) -> Decoded:
    """Read key-value records: unknown keys are ignored, absent ones are null; of a key twice there the first counts.

    All pairs of all records are found first, then each field picks its own.
    """
    bars = payloads.source.positions(b"|")
    first_bar = np.searchsorted(bars, payloads.starts)
    pairs = np.searchsorted(bars, payloads.ends) - first_bar + 1
    row = np.repeat(np.arange(len(payloads)), pairs)
    place = np.arange(len(row)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    bar = first_bar[row] + place
    starts = np.where(place == 0, payloads.starts[row], bars[bar - 1] + 1)
    ends = np.minimum(bars[bar], payloads.ends[row])
    signs = payloads.source.positions(b"=")
    sign = np.minimum(signs[np.searchsorted(signs, starts)], ends)
    # What has no sign has no key: it is cut to nothing.
    key_of_pair = index_in(payloads.fields(starts, np.where(sign < ends, sign, starts)), _NAMES)
    texts = {}
    for key, name in enumerate(_KEYS):
        own = np.flatnonzero(key_of_pair == key)[::-1]
        value_starts, value_ends = payloads.ends.copy(), payloads.ends.copy()
        # The last one that is written stays, so the first pair of a record is written last.
        value_starts[row[own]], value_ends[row[own]] = sign[own] + 1, ends[own]
        texts[name] = payloads.fields(value_starts, value_ends)
    return Decoded(texts, np.zeros(len(payloads), np.bool_))


def _claims(payloads: Payloads) -> Mask:
    is_pair_first: Mask = payloads.first(b"=") < payloads.first(b"|")
    return is_pair_first


FORMAT = RawFormat("sn_key_value", SnKeyValueCdr, _claims, decode, layout=Pairs("|", _KEYS))
