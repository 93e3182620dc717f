"""Cost of a table of ten million subscribers: memory during and after loading, and CPU of a look-up.

    python -m benchmarks.reference [--subscribers 10000000] [--kind parquet] [--json]

Another process writes the file, so that the writer's memory does not count.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import psutil
import pyarrow as pa

from orion_beam.transforms.reference.reference_files import load_subscribers
from orion_beam.transforms.stage.batches import MAX_ROWS

ROUNDS = 20
MIB = 1 << 20


def imsis_of(numbers: "np.typing.NDArray[np.int64]") -> pl.Series:
    """Return an IMSI for each number; neighbouring numbers get IMSIs far apart."""
    return pl.Series("imsi", 208_010_000_000_000 + numbers * 7_368_787 % 10**10).cast(pl.String)


def write(path: Path, count: int) -> None:
    """Write subscribers to a file, as CSV or Parquet by the file's suffix."""
    numbers = np.arange(count, dtype=np.int64)
    kinds = pl.Series(["prepaid", "postpaid", "corporate"])
    frame = pl.DataFrame(
        {
            "imsi": imsis_of(numbers),
            "segment": pl.Series([f"segment {each}" for each in range(12)])[numbers % 12],
            "plan": pl.Series([f"Plan {each}" for each in range(60)])[numbers % 60],
            "subscriber_type": kinds[numbers % 3],
        }
    )
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)


def measure(path: Path, count: int) -> dict[str, float]:
    """Load a file in this process, which has loaded none before, and look up batches with half of the keys unknown."""
    process = psutil.Process()
    before, start = process.memory_info().rss, time.process_time()
    lookup = load_subscribers(str(path))
    loading_s = time.process_time() - start
    at_rest, peak = process.memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    draws = np.random.default_rng(1)
    times = []
    for _ in range(ROUNDS):
        keys = pa.array(imsis_of(draws.integers(0, 2 * count, MAX_ROWS)).to_list())
        start = time.process_time()
        lookup.find(keys)
        times.append((time.process_time() - start) / MAX_ROWS * 1e6)
    return {
        "subscribers": len(lookup),
        "file_mib": path.stat().st_size / MIB,
        "before_mib": before / MIB,
        "peak_mib": peak / MIB,
        "at_rest_mib": at_rest / MIB,
        "loading_cpu_s": loading_s,
        "lookup_us": median(times),
    }


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=10_000_000)
    parser.add_argument("--kind", choices=["csv", "parquet"], default="parquet")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, f"subscribers.{arguments.kind}")
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(path, arguments.subscribers))
        writer.start()
        writer.join()
        figures = measure(path, arguments.subscribers)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:>14} {value:,.2f}")


if __name__ == "__main__":
    main()
