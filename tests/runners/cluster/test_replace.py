"""A start of a job is not broken off halfway. tests/integration/test_jobs.py replaces jobs on a real Flink."""

import signal

import pytest

from orion_beam.runners.cluster.replace import _whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_takes_effect_when_the_start_is_over(number: signal.Signals) -> None:
    def handler(hit: int, _: object) -> None:
        raise InterruptedError(hit)

    def start() -> None:
        with _whole():
            signal.raise_signal(number)
            done.append("whole")

    done: list[str] = []
    before = signal.signal(number, handler)
    try:
        with pytest.raises(InterruptedError):
            start()
        assert done == ["whole"]
        assert signal.getsignal(number) is handler
        with pytest.raises(ValueError, match="refused"), _whole():
            raise ValueError("refused")
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
