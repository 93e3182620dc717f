"""Cost of declared formats against decoders written by hand for the same records, in turns.

    python -m benchmarks.formats [--rows 100000] [--rounds 3] [--json]

It measures this process's CPU time. The decoders by hand do what those of the shipped formats did before they were
declared; JSON has one reader for both.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from benchmarks.core import raw_batches
from orion_beam.countries import all_profiles
from orion_beam.transforms.arrow.compiled import texts_of
from orion_beam.transforms.arrow.texts import index_in, take_texts
from orion_beam.transforms.decoders import Decoded
from orion_beam.transforms.decoders.json import JsonReader
from orion_beam.transforms.decoders.pairs import values_of_pairs
from orion_beam.transforms.decoders.payloads import Payloads
from orion_beam.transforms.decoders.registry import formats_of
from orion_beam.transforms.decoders.unread_members import names_of

Decode = Callable[[Payloads], Decoded]


def _separated(payloads: Payloads, names: tuple[str, ...]) -> Decoded:
    fields, separators = payloads.split(b";", len(names))
    return Decoded(dict(zip(names, fields, strict=True)), separators != len(names) - 1)


def _fr_semicolon(payloads: Payloads) -> Decoded:
    return _separated(payloads, ("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time"))


_TYPES = {
    "MOC": ("voice", "MO", None), "MTC": ("voice", "MT", None), "SMO": ("sms", None, "MO"), "SMT": ("sms", None, "MT"),
    "SGW": ("data", None, None), "PGW": ("data", None, None),
}  # fmt: skip
_TYPE_NAMES = pa.array(_TYPES)
_SAID = [pa.array(each, pa.string()) for each in zip(*_TYPES.values(), strict=True)]


def _ci_semicolon(payloads: Payloads) -> Decoded:
    names = (
        "record_type", "node_id", "local_sequence_number", "imsi", "msisdn", "imei", "cell_id", "rat", "event_time",
        "duration_s", "peer_msisdn", "bytes_up", "bytes_down", "charging_id", "record_sequence_number",
        "cause_for_record_closing",
    )  # fmt: skip
    texts, is_malformed, *_ = _separated(payloads, names)
    texts = dict(texts)
    sent = texts.pop("record_type")
    kinds = index_in(pc.ascii_upper(sent), _TYPE_NAMES)
    event_type, call_type, sms_type = (take_texts(options, kinds) for options in _SAID)
    said = {"event_type": pc.coalesce(event_type, sent), "call_type": call_type, "sms_type": sms_type}
    return Decoded(texts | said, is_malformed)


_KEYS = {
    "imsi": "IMSI", "msisdn": "MSISDN", "imei": "IMEI", "cell_id": "CELL", "rat": "RAT", "bytes_up": "UP",
    "bytes_down": "DOWN", "event_time": "TS", "event_type": "EVENT",
}  # fmt: skip
_KEY_NAMES = pa.array(_KEYS.values())


def _sn_key_value(payloads: Payloads) -> Decoded:
    names = texts_of(_KEY_NAMES)
    starts, ends, *noted = values_of_pairs(payloads.data, payloads.starts, payloads.ends, names, ord("|"), ord("="))
    return Decoded(
        dict(zip(_KEYS, payloads.fields(starts, ends), strict=True)),
        np.zeros(len(payloads), np.bool_),
        unknown=names_of(payloads.data, *noted),
    )


_WIDTHS = {
    "imsi": 15, "msisdn": 16, "imei": 15, "cell_id": 10, "rat": 2, "bytes_up": 12, "bytes_down": 12, "event_time": 20,
}  # fmt: skip


def _sn_fixed_width(payloads: Payloads) -> Decoded:
    fields = payloads.cut_at((0, *accumulate(_WIDTHS.values())))
    return Decoded(dict(zip(_WIDTHS, fields, strict=True)), np.zeros(len(payloads), np.bool_))


_TN = {
    "imsi": "subscriber.imsi", "msisdn": "subscriber.msisdn", "imei": "subscriber.imei", "cell_id": "network.cell",
    "rat": "network.rat", "bytes_up": "usage.up", "bytes_down": "usage.down", "event_time": "timestamp",
    "event_type": "event_type",
}  # fmt: skip
_TN_READER = JsonReader(tuple(_TN.values()), ("subscriber", "network", "usage"))


def _tn_json(payloads: Payloads) -> Decoded:
    read = _TN_READER.decode(payloads)
    return read._replace(texts={field: read.texts[path] for field, path in _TN.items() if path in read.texts})


BY_HAND: Mapping[str, tuple[str, Decode]] = {
    "fr_semicolon": ("FR", _fr_semicolon),
    "ci_semicolon": ("CI", _ci_semicolon),
    "sn_key_value": ("SN", _sn_key_value),
    "sn_fixed_width": ("SN", _sn_fixed_width),
    "tn_json": ("TN", _tn_json),
}
"""Country and decoder by format."""


def claimed(country: str, name: str, rows: int) -> tuple[Decode, list[Payloads]]:
    """Return a format's declared decoder, and the payloads of generated batches that the format claims."""
    profile = all_profiles()[country]
    found = []
    for batch in raw_batches(profile, rows, 32_768):
        payloads = Payloads.of(batch.column("raw_value"))
        left = np.flatnonzero(payloads.lengths > 0)
        for raw_format in formats_of(profile):
            is_claimed = raw_format.claims(payloads.of_rows(left))
            if raw_format.name == name:
                found.append(payloads.of_rows(left[is_claimed]))
                decode = raw_format.decode
                break
            left = left[~is_claimed]
    return decode, found


def measure(name: str, rows: int, rounds: int) -> dict[str, float]:
    """Return microseconds of CPU a CDR by hand and declared: the medians of rounds in turns."""
    country, by_hand = BY_HAND[name]
    declared, batches = claimed(country, name, rows)
    count = sum(map(len, batches))
    times: dict[str, list[float]] = {"by_hand": [], "declared": []}
    for turn in range(2 * rounds + 2):
        kind, decode = [("by_hand", by_hand), ("declared", declared)][turn % 2]
        start = time.process_time()
        for batch in batches:
            decode(batch)
        if turn > 1:
            times[kind].append((time.process_time() - start) / count * 1e6)
    return {kind: median(each) for kind, each in times.items()}


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="CDRs a country")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; each runs both decoders")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    costs = {name: measure(name, arguments.rows, arguments.rounds) for name in BY_HAND}
    if arguments.json:
        print(json.dumps({"us_per_cdr": costs}))
        return
    table = Table("format", "by hand", "declared", "ratio", title="decoding, microseconds of CPU a CDR")
    for name, cost in costs.items():
        ratio = cost["declared"] / cost["by_hand"]
        table.add_row(name, f"{cost['by_hand']:.3f}", f"{cost['declared']:.3f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
