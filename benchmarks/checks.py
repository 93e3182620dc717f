"""Cost of the checks for partials, duplicates and sequence gaps, beside the chain's: microseconds of CPU a CDR.

    python -m benchmarks.checks [--rows 100000] [--json]

The generator's formats carry no node, sequence number or cause for closing. This benchmark adds them to normalized
CDRs: three nodes, numbers in order. It runs on one core.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TypeVar

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.core import raw_batches, stages
from orion_beam.countries import default_profiles
from orion_beam.schemas.cdr import NORMALIZED_SCHEMA
from orion_beam.schemas.codes import Stage
from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms.record_checks.duplicates import DuplicateMemory, flag_duplicates
from orion_beam.transforms.record_checks.gaps import summaries_of
from orion_beam.transforms.record_checks.partials import tag_partials
from orion_beam.transforms.stage.batches import MAX_ROWS, batch_of, columns_of
from orion_beam.transforms.stage.split import Split

ROUNDS = 3
WINDOW = 1_000_000
NODES = 3

Made = TypeVar("Made")


def recorded(batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """Return normalized CDRs with the numbers that nodes after 3GPP TS 32.298 give them.

    Args:
        batch: Normalized CDRs.
        first: Number of CDRs that were read before these.
    """
    place = np.arange(first, first + batch.num_rows)
    columns = columns_of(batch) | {
        "source_offset": pa.array(place),
        "node_id": pa.array([f"pgw-{node}" for node in range(NODES)]).take(pa.array(place % NODES)),
        "local_sequence_number": pa.array(place // NODES),
        "record_sequence_number": pa.array(place % 5 + 1),
        "cause_for_record_closing": pa.array(np.where(place % 5 == 4, 0, 16)),
    }
    return batch_of(columns, NORMALIZED_SCHEMA)


def measure(profile: CountryProfile, rows: int) -> dict[str, float]:
    """Return microseconds of CPU a CDR for the chain and for each check: medians of rounds in which they take turns."""
    raw = raw_batches(profile, rows, MAX_ROWS)
    times: dict[str, list[float]] = defaultdict(list)
    memory, first = DuplicateMemory(WINDOW), 0

    def timed(name: str, function: Callable[[pa.RecordBatch], Made], batches: list[pa.RecordBatch]) -> list[Made]:
        start = time.process_time()
        made = [function(batch) for batch in batches]
        times[name].append((time.process_time() - start) / rows * 1e6)
        return made

    def passed(name: str, stage: Split, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        return [outcome.accepted for outcome in timed(name, stage, batches)]

    for _ in range(ROUNDS):
        batches = raw
        for name, stage in stages(profile):
            if name == Stage.ENRICH:
                starts = first + np.cumsum([0, *(batch.num_rows for batch in batches)])
                batches = [recorded(batch, int(start)) for batch, start in zip(batches, starts, strict=False)]
                first = int(starts[-1])
                timed("gaps", _sum_up, batches)
                batches = passed("partials", tag_partials, batches)
                batches = passed("duplicates", partial(flag_duplicates, profile=profile, memory=memory), batches)
            batches = passed(name, stage, batches)
    costs = {name: median(each) for name, each in times.items()}
    checks = {name: costs.pop(name) for name in ("partials", "duplicates", "gaps")}
    return {"chain": sum(costs.values())} | checks


def _sum_up(batch: pa.RecordBatch) -> list[object]:
    return list(summaries_of(batch))


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="CDRs a country and round")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    costs = {code: measure(profile, arguments.rows) for code, profile in default_profiles().items()}
    costs["mix"] = {
        name: sum(cost[name] for cost in costs.values()) / len(costs) for name in next(iter(costs.values()))
    }
    if arguments.json:
        print(json.dumps(costs))
        return
    table = Table("country", *costs["mix"], "of the throughput", title="microseconds of CPU a CDR")
    for code, cost in costs.items():
        share = 1 - cost["chain"] / sum(cost.values())
        table.add_row(code, *(f"{each:.2f}" for each in cost.values()), f"{share:.0%}")
    Console().print(table)


if __name__ == "__main__":
    main()
