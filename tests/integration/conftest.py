"""Fixtures: a broker and jobs for each test. Files whose tests share a broker or a job define their own fixtures."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orion_beam.runners.jars.build import orion_home
from orion_beam.runners.local.kafka import LocalKafka
from tests.command import orion_beam
from tests.integration.harness import StartJob, jobs_in, kafka_in
from tests.integration.numbers import NumberSearch

__all__ = ["kafka", "orion_beam", "start_job"]


@pytest.fixture(scope="session", autouse=True)
def _numbers_are_searched(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> None:
    """Search what the tests leave for subscribers' numbers."""
    places = [tmp_path_factory.getbasetemp(), orion_home() / "runs", orion_home() / "submitted"]
    pytestconfig.pluginmanager.register(NumberSearch(places))


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
