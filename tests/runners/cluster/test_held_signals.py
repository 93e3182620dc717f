"""A step of a job's life is not broken off halfway. tests/integration/test_jobs.py interrupts an upgrade."""

import signal
from collections.abc import Callable, Iterator

import pytest

from orion_beam.runners.cluster.held_signals import held_signals, pass_on

each_signal = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def _handler(hit: int, _: object) -> None:
    raise InterruptedError(hit)


@pytest.fixture(autouse=True)
def _handled() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, _handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def step(number: signal.Signals, done: list[str], times: int, tell: Callable[[], None] | None = None) -> None:
    with held_signals(tell) as held:
        for _ in range(times):
            signal.raise_signal(number)
        done.append("whole")
    assert signal.getsignal(number) is _handler
    pass_on(held)


@each_signal
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_takes_effect_when_the_step_is_over(number: signal.Signals, times: int) -> None:
    done: list[str] = []
    with pytest.raises(InterruptedError):
        step(number, done, times)
    assert done == ["whole"]


@each_signal
def test_where_the_first_one_is_told_of_the_second_takes_effect_at_once(number: signal.Signals) -> None:
    done: list[str] = []
    with pytest.raises(InterruptedError):
        step(number, done, 1, lambda: done.append("told"))
    assert done == ["told", "whole"]
    with pytest.raises(InterruptedError):
        step(number, done, 2, lambda: done.append("told"))
    assert done == ["told", "whole", "told"]
    assert signal.getsignal(number) is _handler


def test_without_a_signal_nothing_happens() -> None:
    done: list[str] = []
    step(signal.SIGINT, done, 0)
    assert done == ["whole"]
