"""What all tests share: the option of `make golden`, fewer generated cases by default, and quick profiles."""

import os

import pytest
from hypothesis import HealthCheck, settings

from orion_beam.cli.shared.late import load_late_imports

# Generated cases are few in unit tests and many in those marked `deep`, which set their own number.
# Times vary on shared machines, so a slow example is no failure.
settings.register_profile(
    "unit", max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the expected outputs of the golden tests")


LONGEST_FIRST = (
    "test_restart",
    "test_replay",
    "test_demo",
    "test_secured",
    "test_redrive",
    "test_cluster",
    "test_brokers",
)
"""Files whose tests take minutes. Begun last, one of them would run alone, beside an idle core."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True)
def _nothing_left_to_import() -> None:
    """Import what a test before, which asked for help only, has left as a name in the modules of the command line."""
    load_late_imports()
