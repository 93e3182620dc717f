"""A machine without time zones: whatever makes one says what to install."""

import os
import subprocess
import sys

import pytest

WITHOUT_ZONES = """
import sys
sys.modules["tzdata"] = None  # as if it were not installed
from orion_beam.schemas.zones import zone_of
"""
MAKERS = {
    "a profile": "from orion_beam.countries import all_profiles\nall_profiles()",
    "a zone": "zone_of('Europe/Paris')",
    "a stage": "from numpy import zeros; from orion_beam.transforms.arrow.times import to_local\n"
    "to_local(zeros(1, int), 'Etc/UTC')",
}


@pytest.mark.parametrize("maker", MAKERS)
def test_without_a_database_it_is_said_what_to_install(maker: str) -> None:
    program = f"{WITHOUT_ZONES}\ntry:\n  exec({MAKERS[maker]!r})\nexcept Exception as error:\n  print(error)"
    environment = os.environ | {"PYTHONTZPATH": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=600)
    assert "no time zone database: install the system's package tzdata, or `pip install tzdata`" in done.stdout


def test_a_command_says_it_in_one_line_with_exit_code_2() -> None:
    program = "import sys; sys.modules['tzdata'] = None; from orion_beam.cli.main import main; main()"
    environment = os.environ | {"PYTHONTZPATH": ""}
    command = [sys.executable, "-c", program, "rules", "--country", "FR"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "no time zone database" in done.stderr
