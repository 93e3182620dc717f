"""Interrupts that wait until a step is whole: a stop or a start that is broken off goes on at the cluster."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["held_signals", "pass_on"]

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_signals(tell: Callable[[], None] | None = None) -> Iterator[list[int]]:
    """Hold back SIGINT and SIGTERM while the block runs; yield the list of those that have come, see `pass_on`.

    Args:
        tell: Called for the first one; a second one then takes effect at once. With None, all are held back.
    """
    held: list[int] = []
    before = {number: signal.getsignal(number) for number in _NUMBERS}

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)
        if tell is None:
            return
        handler = before[signal.Signals(number)]
        if len(held) > 1 and callable(handler):
            handler(number, frame)
        elif len(held) == 1:
            tell()

    for number in _NUMBERS:
        signal.signal(number, hold)
    try:
        yield held
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def pass_on(held: list[int]) -> None:
    """Let the first signal that was held back take effect now, if there is one."""
    if held:
        signal.raise_signal(held[0])
