"""Ctrl-C: an interrupt that Python ignores, because it comes at the wrong moment, is not lost."""

import subprocess
import sys

from orion_beam.cli.shared.interrupts import INTERRUPTED

INTERRUPTED_IN_A_CALLBACK = """
import signal, sys, time, weakref
from orion_beam.cli.shared import interrupts

class Module:
    pass

module = Module()
reference = weakref.ref(module, lambda _: signal.raise_signal(signal.SIGINT))
with interrupts.handled():
    interrupts.raise_from_now_on()
    try:
        del module
        print("ignored", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        sys.exit(interrupts.INTERRUPTED)
"""


def test_an_interrupt_within_a_callback_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_IN_A_CALLBACK], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "ignored\n", "")
