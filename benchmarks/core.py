"""Cost of the chain on one core, without I/O: microseconds of CPU a CDR, by stage and country.

    python -m benchmarks.core [--rows 100000] [--batch-rows 32768] [--json]

It measures this process's CPU time, not wall time, which other work on the machine disturbs more.
"""

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from statistics import median

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from orion_beam.chain import chain_of, load_reference
from orion_beam.countries import default_profiles
from orion_beam.generator import generate_batches
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.raw import RAW_CDR_SCHEMA
from orion_beam.transforms.encode import Wire, encode_batch
from orion_beam.transforms.stage.batches import MAX_ROWS, batch_of
from orion_beam.transforms.stage.split import Split

FAULT_RATE = 0.02
ROUNDS = 5


def raw_batches(profile: CountryProfile, rows: int, batch_rows: int) -> list[pa.RecordBatch]:
    """Return generated raw CDRs of one country, in batches as the read makes them."""
    batches: list[pa.RecordBatch] = []
    for generated in generate_batches(profile, rows, seed=1, fault_rate=FAULT_RATE, batch_rows=batch_rows):
        count = len(generated)
        columns = {
            "raw_key": generated.key.to_arrow().cast(pa.binary()),
            "raw_value": generated.value.to_arrow().cast(pa.binary()),
            "raw_headers": pa.array([[]] * count, RAW_CDR_SCHEMA.field("raw_headers").type),
            "source_topic": pa.repeat(profile.topic, count),
            "source_partition": pa.repeat(pa.scalar(0, pa.int32()), count),
            "source_offset": pa.array(range(count), pa.int64()),
            "source_timestamp": generated.timestamp.to_arrow(),
            "country": pa.repeat(profile.code, count),
        }
        batches.append(batch_of(columns, RAW_CDR_SCHEMA))
    return batches


def stages(profile: CountryProfile) -> Iterator[tuple[str, Split]]:
    """Yield name and pure function of each stage of the chain, in order."""
    yield from chain_of(profile, load_reference()).items()
    yield "encode", partial(encode_batch, model=UnifiedCdr, wire=Wire(b"0123456789"))


def measure(profile: CountryProfile, rows: int, batch_rows: int) -> dict[str, float]:
    """Return microseconds of CPU a CDR for each stage, the median of the rounds."""
    batches = raw_batches(profile, rows, batch_rows)
    costs = {}
    for name, stage in stages(profile):
        times = []
        for _ in range(ROUNDS):
            start = time.process_time()
            outcomes = [stage(batch) for batch in batches]
            times.append(time.process_time() - start)
        costs[name] = median(times) / rows * 1e6
        batches = [outcome.accepted for outcome in outcomes]
    return costs


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="CDRs a country")
    parser.add_argument("--batch-rows", type=int, default=MAX_ROWS, help="rows of a batch")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    costs = {
        code: measure(profile, arguments.rows, arguments.batch_rows) for code, profile in default_profiles().items()
    }
    per_cdr = sum(sum(cost.values()) for cost in costs.values()) / len(costs)
    if arguments.json:
        print(json.dumps({"us_per_cdr": costs, "mix_us_per_cdr": per_cdr, "mix_cdr_per_s": 1e6 / per_cdr}))
        return
    names = list(next(iter(costs.values())))
    title = f"microseconds of CPU a CDR, {FAULT_RATE:.0%} faults, {arguments.batch_rows} rows a batch"
    table = Table("country", title=title)
    for name in [*names, "sum", "CDR/s"]:
        table.add_column(name, justify="right")
    for code, cost in costs.items():
        total = sum(cost.values())
        table.add_row(code, *(f"{cost[name]:.2f}" for name in names), f"{total:.2f}", f"{1e6 / total:,.0f}")
    table.add_section()
    means = [sum(cost[name] for cost in costs.values()) / len(costs) for name in names]
    table.add_row("mix", *(f"{mean:.2f}" for mean in means), f"{per_cdr:.2f}", f"{1e6 / per_cdr:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
