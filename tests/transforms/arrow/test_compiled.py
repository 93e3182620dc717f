"""That something is compiled is said; what was compiled before is loaded without a word."""

import os
import shutil
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
            [sys.executable, program], env=environment, capture_output=True, text=True, check=True, timeout=600
        )
        return done.stderr.count("compiling the hot path")

    assert [said(), said()] == [1, 0]


WITHOUT_WRITING = """
import errno, os, tempfile
def refuse(*_, **__):
    raise OSError(errno.EROFS, "Read-only file system")
if "READ_ONLY" in os.environ:
    tempfile.TemporaryFile = refuse  # by which numba finds out whether it may write
"""


def test_what_an_image_holds_is_loaded_from_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    program, cache = tmp_path / "adds_one.py", tmp_path / "cache"
    program.write_text(WITHOUT_WRITING + ADDS_ONE)

    def said(**more: str) -> int:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)} | more
        done = subprocess.run(
            [sys.executable, program], env=environment, capture_output=True, text=True, check=True, timeout=600
        )
        return done.stderr.count("compiling the hot path")

    assert said() == 1
    assert said(READ_ONLY="1") == 0
    # Processors that the image was not made for: the code is compiled, and not kept.
    for path in [path for path in cache.rglob("*") if path.is_file()]:
        path.unlink()
    assert said(READ_ONLY="1") == 1
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    shutil.rmtree(cache)
    assert said(READ_ONLY="1") == 1


HELPER = """
from orion_beam.transforms.arrow.compiled import INT64, compiled
{comment}
STEP = {step}
@compiled(INT64)
def stepped(number):
    return number + STEP * {factor}
"""
CALLER = """
import logging
from helper import stepped
from orion_beam.transforms.arrow.compiled import INT64, compiled
logging.basicConfig()
@compiled(INT64)
def twice(number):
    return stepped(stepped(number))
print(twice(1))
"""


def test_a_change_of_a_helper_in_another_file_is_compiled_and_one_of_a_comment_is_not(tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(CALLER)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def outcome(step: int, factor: int, comment: str = "#") -> tuple[int, bool]:
        (tmp_path / "helper.py").write_text(HELPER.format(step=step, factor=factor, comment=comment))
        # Python takes a file of the same second and size for unchanged, unless it writes no bytecode (-B).
        done = subprocess.run(
            [sys.executable, "-B", "caller.py"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=600,
        )  # fmt: skip
        return int(done.stdout), "compiling the hot path" in done.stderr

    assert outcome(1, 1) == (3, True)
    assert outcome(1, 1, "# Said better.") == (3, False)
    assert outcome(2, 1) == (5, True)
    assert outcome(2, 3) == (13, True)
