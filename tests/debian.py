"""Programs of Debian packages that some tests need: skipped without them, unless ORION_REQUIRE_ALL says to fail."""

import os
import shutil

import pytest


def may_use(program: str) -> bool:
    """Return whether a program is there, or must be: then `require_program` says what is missing."""
    return shutil.which(program) is not None or bool(os.environ.get("ORION_REQUIRE_ALL"))


def require_program(*names: str, package: str) -> str:
    """Return the path of the first of these programs that is there; skip the test, or fail, when none is."""
    found = next((path for path in map(shutil.which, names) if path is not None), None)
    if found is None:
        reason = f"{names[0]} is missing: apt-get install -y {package}"
        if os.environ.get("ORION_REQUIRE_ALL"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
