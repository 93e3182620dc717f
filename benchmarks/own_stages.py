"""Cost of the shipped stages on one core: microseconds of CPU a CDR, with all checks of a stage's output.

    python -m benchmarks.own_stages [--rows 32768] [--json]

`pseudonymise` changes four fields, of which every number is another one. The stage `nothing` returns its batch: what
it takes are the checks.
"""

import argparse
import json
import secrets
import tempfile
import time
from statistics import median
from typing import Any

import pyarrow as pa

from benchmarks.core import raw_batches
from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import default_profiles
from orion_beam.custom_stages.code import load_stage, runnable
from orion_beam.custom_stages.run import checked
from orion_beam.job_file.stage_declaration import StageDeclaration
from orion_beam.transforms.stage.batches import batch_of, columns_of

ROUNDS = 15


def distinct_numbers(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch in which each subscriber, device and peer is another one, and each row has all four."""
    serials = [secrets.randbelow(10**8) for _ in range(batch.num_rows)]
    columns = columns_of(batch) | {
        "imsi": pa.array([f"2080100{serial:08d}" for serial in serials]),
        "imei": pa.array([f"3536730{serial:08d}" for serial in serials]),
        "msisdn": pa.array([f"+336{serial:08d}" for serial in serials]),
        "peer_msisdn": pa.array([f"+337{serial:08d}" for serial in serials]),
    }
    return batch_of(columns, batch.schema)


def measure(rows: int) -> dict[str, float]:
    """Return microseconds of CPU a CDR for each stage, the median of the rounds."""
    profile = default_profiles()["FR"]
    (raw,) = raw_batches(profile, rows, rows)
    batch = distinct_numbers(run_chain(chain_of(profile, load_reference()), raw).accepted)
    with tempfile.NamedTemporaryFile() as key:
        key.write(secrets.token_bytes(32))
        key.flush()
        is_test = {"field": "imsi", "operator": "starts_with", "values": ["00101", "99999"]}
        declared: dict[str, dict[str, Any]] = {
            "nothing": {"run": "orion_beam.custom_stages:split"},
            "pseudonymise": {"options": {"key_file": key.name}},
            "drop_rows": {"options": {"where": [is_test]}},
        }
        costs = {}
        for name, fields in declared.items():
            stage = load_stage(StageDeclaration.model_validate({"name": name, "after": "enrich"} | fields))
            run = checked(runnable(stage), stage)
            times = []
            for _ in range(ROUNDS):
                start = time.process_time()
                run(batch)
                times.append(time.process_time() - start)
            costs[name] = median(times) / batch.num_rows * 1e6
    return costs


def main() -> None:
    """Measure and print a line a stage, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32_768, help="CDRs of the batch")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    costs = measure(arguments.rows)
    if arguments.json:
        print(json.dumps(costs))
    else:
        for name, cost in costs.items():
            print(f"{name:14}{cost:6.3f} µs a CDR")


if __name__ == "__main__":
    main()
