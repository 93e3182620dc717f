"""Set-up of all tests: the option of `make golden`, few generated cases by default, and the longest files first."""

import logging
import os
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from orion_beam.cli.shared.late import load_late_imports

# Unit tests generate few cases. Tests marked `deep` generate many, and set the number themselves.
# Times vary on shared machines, so a slow example is not a failure.
settings.register_profile(
    "unit", max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))


# Streams of tests are small. A JVM touches its whole heap at its start, which takes seconds for the usual 2 GiB.
os.environ.setdefault("ORION_FLINK_HEAP_MB", "768")

# A shell makes what it starts in the background ignore Ctrl-C, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the expected outputs of the golden tests")


LONGEST_FIRST = (
    "test_restart",
    "test_replay",
    "test_demo",
    "test_secured",
    "test_redrive",
    "test_cluster",
    "test_high_availability",
    "test_brokers",
)
"""Files whose tests take minutes. If one of them started last, it would run alone while another core is idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session", autouse=True)
def _temporary_files_stay_with_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Temporary files go below the directories of the tests. Beam, for one, leaves an empty directory per pipeline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", directory := str(tmp_path_factory.mktemp("tmp", numbered=False)))
        patch.setattr(tempfile, "tempdir", directory)
        yield


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True)
def _level_of_logs_is_restored() -> Iterator[None]:
    """A command that a test calls sets the level of all logs, for the process that it expects to be."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


@pytest.fixture(autouse=True)
def _nothing_left_to_import() -> None:
    """Do the deferred imports of the command line, in case an earlier test asked for help only and left them undone."""
    load_late_imports()
