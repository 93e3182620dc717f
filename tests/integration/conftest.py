"""Fixtures: a broker and jobs for each test. Files whose tests share a broker or a job define their own fixtures."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orion_beam.runners.local.kafka import LocalKafka
from tests.command import orion_beam
from tests.integration.harness import StartJob, jobs_in, kafka_in

__all__ = ["kafka", "orion_beam", "start_job"]


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    """A broker with all topics, which are empty."""
    with kafka_in(tmp_path / "kafka") as broker:
        yield broker


@pytest.fixture
def start_job(tmp_path: Path) -> Iterator[StartJob]:
    """A function that starts `orion-beam run`; takes bootstrap servers, arguments, and as `beam` those behind `--`."""
    with jobs_in(tmp_path / "jobs") as start:
        yield start
