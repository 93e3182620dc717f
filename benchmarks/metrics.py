"""What worker metrics cost: CPU of the chain with and without them, in turns.

python -m benchmarks.metrics [--rows 50000] [--batch-rows 16384] [--rounds 9]
"""

import argparse
import os
import tempfile
import time
from statistics import median
from typing import Any

from benchmarks.core import raw_batches, stages
from orion_beam.countries import default_profiles
from schemas.codes import Stage
from transforms.batches import MAX_ROWS
from transforms.observing import StageObserver


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000, help="CDRs a country")
    parser.add_argument("--batch-rows", type=int, default=MAX_ROWS, help="rows of a batch")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each")
    arguments = parser.parse_args()
    chains = [
        (list(stages(profile)), raw_batches(profile, arguments.rows, arguments.batch_rows))
        for profile in default_profiles().values()
    ]
    with tempfile.TemporaryDirectory() as directory:
        observer = _observer(directory)
        without, with_metrics = [], []
        for _ in range(arguments.rounds):
            without.append(_cpu_s(chains, None))
            with_metrics.append(_cpu_s(chains, observer))
    rows = arguments.rows * len(chains)
    costs = [median(times) / rows * 1e6 for times in (without, with_metrics)]
    print(f"without metrics {costs[0]:.3f} us of CPU a CDR, with {costs[1]:.3f}")
    ratios = [b / a for a, b in zip(without, with_metrics, strict=True)]
    print(f"ratio of neighbours: median {median(ratios):.4f}, from {min(ratios):.4f} to {max(ratios):.4f}")


def _observer(directory: str) -> StageObserver:
    # prometheus-client looks at this when it is imported, which must be the first time here.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    from orion_beam.worker_metrics import WorkerMetrics

    return WorkerMetrics()


def _cpu_s(chains: list[tuple[list[tuple[str, Any]], list[Any]]], observer: StageObserver | None) -> float:
    began = time.process_time()
    for chain, batches in chains:
        for batch in batches:
            for stage, split in chain:
                at = time.perf_counter()
                outcome = split(batch)
                if observer is not None:
                    observer.stage_done(Stage(stage), batch, outcome, time.perf_counter() - at)
                batch = outcome.accepted
    return time.process_time() - began


if __name__ == "__main__":
    main()
