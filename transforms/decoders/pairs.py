"""Reading of pairs, such as `IMSI=20801...|UP=12`, in columns: one compiled pass over the records."""

import numpy as np

from orion_beam.transforms.arrow.compiled import BYTE, BYTES, INT64S, TEXTS, Bytes, Offsets, Texts, compiled
from orion_beam.transforms.arrow.texts import equals, is_blank
from orion_beam.transforms.decoders.payloads import Spans
from orion_beam.transforms.decoders.unread_members import MOST_NAMES, place_of_name


@compiled(BYTES, INT64S, INT64S, TEXTS, BYTE, BYTE)
def values_of_pairs(
    data: Bytes, starts: Offsets, ends: Offsets, names: Texts, separator: int, assign: int
) -> tuple[Spans, Spans, Offsets, Offsets, Offsets]:
    """Return the starts and ends of the values of pairs, then the starts, ends and counts of unknown names.

    Of a name that comes twice, the first value counts.

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
            while sign < ends[row] and data[sign] != assign and data[sign] != separator:
                sign += 1
            bar = sign
            while bar < ends[row] and data[bar] != separator:
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
