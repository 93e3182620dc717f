"""The processes of an audit. `tests/integration/test_audit.py` has what they read."""

import subprocess
import sys


def test_a_process_that_reads_a_share_starts_without_notices_of_beam() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import orion_beam.proof.tally_processes"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
