"""Fixture that calls the command line as a user does."""

import logging
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from orion_beam.cli.main import main


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def orion_beam(monkeypatch, capsys, request) -> Command:
    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["orion-beam", *map(str, arguments)])
        # A command replaces both, and never restores them since its process ends. Here the next test needs them.
        monkeypatch.setattr(sys, "stderr", sys.stderr)
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        environment = dict(os.environ)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            # What a command sets is for the processes that it starts.
            os.environ.clear()
            os.environ.update(environment)
        answer = Answer(int(ended.value.code or 0), *capsys.readouterr())
        if "--reveal" not in arguments:
            # Shown if the test fails, and searched for subscribers' numbers (tests.integration.numbers).
            request.node.add_report_section("call", "answer", answer.out + answer.err)
        return answer

    return call
