"""Cost of worker metrics, as a share of the chain's CPU.

    python -m benchmarks.metrics [--rows 50000] [--batch-rows 16384] [--rounds 9]

One run measures both, batch by batch, so that noise on the machine affects both alike.
"""

import argparse
import os
import tempfile
import time
from statistics import median
from typing import Any

from benchmarks.core import raw_batches, stages
from orion_beam.countries import default_profiles
from orion_beam.transforms.stage.batches import MAX_ROWS
from orion_beam.transforms.stage.observing import StageObserver


def main() -> None:
    """Measure and print the median share, and its range."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000, help="CDRs a country")
    parser.add_argument("--batch-rows", type=int, default=MAX_ROWS, help="rows of a batch")
    parser.add_argument("--rounds", type=int, default=9, help="rounds")
    arguments = parser.parse_args()
    chains = [
        (list(stages(profile)), raw_batches(profile, arguments.rows, arguments.batch_rows))
        for profile in default_profiles().values()
    ]
    with tempfile.TemporaryDirectory() as directory:
        observer = _observer(directory)
        shares = []
        for _ in range(arguments.rounds):
            chain_s, metrics_s = _cpu_s(chains, observer)
            shares.append(metrics_s / chain_s)
    print(
        f"batches of {arguments.batch_rows} rows: metrics take {median(shares):.2%} of the chain's CPU,"
        f" from {min(shares):.2%} to {max(shares):.2%} in {arguments.rounds} rounds"
    )


def _observer(directory: str) -> StageObserver:
    # prometheus-client reads this variable when it is first imported, which must happen after this line.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    from orion_beam.telemetry.worker_metrics import WorkerMetrics

    return WorkerMetrics()


def _cpu_s(chains: list[tuple[list[tuple[str, Any]], list[Any]]], observer: StageObserver) -> tuple[float, float]:
    """Return the CPU seconds of the stages and of the metrics."""
    chain_s = metrics_s = 0.0
    for chain, batches in chains:
        for batch in batches:
            for stage, split in chain:
                began = time.process_time()
                outcome = split(batch)
                split_at = time.process_time()
                observer.stage_done(stage, batch, outcome, split_at - began)
                chain_s += split_at - began
                metrics_s += time.process_time() - split_at
                batch = outcome.accepted
    return chain_s, metrics_s


if __name__ == "__main__":
    main()
