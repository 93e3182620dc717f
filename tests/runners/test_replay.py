"""The threads of a replay: whatever they are told, nobody waits for them for ever."""

import io
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from orion_beam.replay.plan import Chunk
from orion_beam.runners.replay import _listen, _take_orders


def test_a_worker_that_says_what_is_no_report_is_reported_and_listened_to_further() -> None:
    says = "print('no report'); print('{\"done\": 1}')"
    worker = subprocess.Popen([sys.executable, "-c", says], stdout=subprocess.PIPE, text=True)
    reports: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
    _listen(3, worker, Path("worker-3.log"), reports)
    number, report = reports.get_nowait()
    assert (number, report["error"]) == (3, "a worker says what is no report; worker-3.log may say more")
    assert reports.get_nowait() == (3, {"done": 1})


def test_an_order_that_makes_no_sense_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("no number\n"))
    asked: queue.Queue[Chunk | None] = queue.Queue()
    idle = threading.Event()
    idle.set()
    with pytest.raises(ValueError, match="invalid literal"):
        _take_orders({}, asked, idle)
    assert asked.get_nowait() is None
