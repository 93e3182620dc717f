"""That something is compiled is said; what was compiled before is loaded without a word."""

import os
import subprocess
import sys
from pathlib import Path

ADDS_ONE = """
import logging
from orion_beam.transforms.arrow.compiled import INT64, compiled
logging.basicConfig()
@compiled(INT64)
def plus_one(number):
    return number + 1
@compiled(INT64)
def plus_two(number):
    return plus_one(plus_one(number))
assert plus_two(1) == 3
"""


def test_compiling_is_said_once_and_loading_is_not(tmp_path: Path) -> None:
    program = tmp_path / "adds_one.py"
    program.write_text(ADDS_ONE)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def said() -> int:
        done = subprocess.run(
            [sys.executable, program], env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        return done.stderr.count("compiling the hot path")

    assert [said(), said()] == [1, 0]
