"""Signals: none is lost that Python ignores, that arrives in another thread, or that was blocked at the start."""

import signal
import subprocess
import sys
from pathlib import Path

from orion_beam.cli.shared.interrupts import INTERRUPTED
from tests.integration.harness import await_until

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


BLOCKED = """
import os, signal
from orion_beam.cli.shared import interrupts

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.kill(os.getpid(), signal.SIGTERM)
interrupts.clean_up_on_sigterm()
interrupts.await_signal()
"""


def test_a_command_that_is_started_with_sigterm_blocked_ends_by_it() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")


WAITS = """
from orion_beam.cli.shared import interrupts

interrupts.clean_up_on_sigterm()
print("ready", flush=True)
interrupts.await_signal()
"""


def test_a_command_that_waits_prints_its_stacks_on_sigquit_and_goes_on(tmp_path: Path) -> None:
    stacks = tmp_path / "stacks"
    with (
        stacks.open("w") as written,
        subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=written) as process,
    ):
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        catches = Path(f"/proc/{process.pid}/status")
        await_until(lambda: _catches(catches.read_text(), signal.SIGQUIT), 600, "SIGQUIT is caught")

        def prints() -> bool:
            process.send_signal(signal.SIGQUIT)
            return "in await_signal" in stacks.read_text()

        await_until(prints, 600, "it prints its stacks")
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM


def _catches(status: str, number: int) -> bool:
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_an_interrupt_within_a_callback_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_IN_A_CALLBACK], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "ignored\n", "")
