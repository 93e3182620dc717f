"""`python -m tests.chaos`: harm a running system by a seeded schedule, and prove that nothing is lost."""

import argparse
import faulthandler
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import orion_beam.runners  # noqa: F401  # first, since it leaves out a notice of Beam's
from tests.chaos.harms import KINDS
from tests.chaos.run import run
from tests.chaos.system import RUN_VARIABLE


def main() -> int:
    """Run, print the table, and return 0 if everything is as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="seed of the schedule; by default drawn, and printed")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to begin new harms (10)")
    parser.add_argument("--harms", type=int, help="most harms")
    parser.add_argument("--rate", type=int, default=100, help="records per second of each of four countries (100)")
    parser.add_argument("--only", action="append", default=[], choices=sorted(KINDS), help="a kind; repeatable")
    parser.add_argument("--json", type=Path, default=Path("out/chaos.json"), help="where the figures go")
    parser.add_argument("--directory", type=Path, help="empty directory for everything; kept")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    # SIGQUIT tells where each thread stands.
    faulthandler.register(signal.SIGQUIT)
    # Also where a shell has started it in the background: what has been started must end with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    os.environ[RUN_VARIABLE] = f"{os.getpid()}-{time.time():.0f}"
    directory = given.directory or Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {seed}, everything is in {directory}", file=sys.stderr, flush=True)
    try:
        outcome = run(directory.absolute(), seed, given.rate, given.minutes, harms=given.harms, only=given.only)
    except KeyboardInterrupt:
        print(f"interrupted: nothing is proven; logs are in {directory}", file=sys.stderr)
        return 130
    outcome.write(given.json)
    print(f"seed {seed}, {outcome.minutes:.1f} minutes, {outcome.rate} records a second, load {outcome.load:.1f}")
    print(outcome.table())
    if outcome.all_problems:
        print(f"FAILED: keep the seed in tests/chaos/seeds.txt; logs are in {directory}")
        return 1
    if given.directory is None:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
