"""Programs of Debian packages that some tests need. Without them a test is skipped; with ORION_REQUIRE_ALL it fails."""

import os
import shutil

import pytest


def may_use(program: str) -> bool:
    """Return whether a program is installed, or ORION_REQUIRE_ALL demands it, so that `require_program` fails."""
    return shutil.which(program) is not None or bool(os.environ.get("ORION_REQUIRE_ALL"))


def require_program(*names: str, package: str) -> str:
    """Return the path of the first of these programs that is installed; skip or fail the test when none is."""
    found = next((path for path in map(shutil.which, names) if path is not None), None)
    if found is None:
        reason = f"{names[0]} is missing: apt-get install -y {package}"
        if os.environ.get("ORION_REQUIRE_ALL"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
