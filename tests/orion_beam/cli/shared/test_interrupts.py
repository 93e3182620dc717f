"""Ctrl-C: an interrupt that Python ignores, because it comes at the wrong moment, is not lost."""

import signal
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

IN_ANOTHER_THREAD = """
import os, signal, threading
from orion_beam.cli.shared import interrupts

interrupts.clean_up_on_sigterm()
threading.Thread(target=threading.Event().wait, daemon=True).start()
# Now the signal cannot arrive in this thread.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
interrupts.await_signal()
"""


def test_a_signal_that_arrives_in_another_thread_ends_a_command_that_waits() -> None:
    done = subprocess.run([sys.executable, "-c", IN_ANOTHER_THREAD], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")


def test_an_interrupt_within_a_callback_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_IN_A_CALLBACK], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "ignored\n", "")
