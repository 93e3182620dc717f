"""An error of ours becomes a check that failed: what is wrong, and what to do, each in its place."""

import pytest

from orion_beam.doctor.findings import failed, ok, refused, require, warning
from orion_beam.errors import PrerequisiteError, UserError


@pytest.mark.parametrize(
    ("text", "found", "fix"),
    [
        ("no java: install one (Debian: apt)", "no java", "install one (Debian: apt)"),
        ("Kafka at a:1 is gone (Local: down): check it", "Kafka at a:1 is gone (Local: down)", "check it"),
        ("nothing to be done", "nothing to be done", ""),
    ],
)
def test_what_stands_behind_the_colon_is_the_fix(text: str, found: str, fix: str) -> None:
    assert refused("name", UserError(text)) == failed("name", found, fix)


def test_the_first_failure_refuses_and_the_rest_is_not_even_looked_at() -> None:
    def checks():
        yield ok("a", "fine")
        yield warning("b", "not nice", "mend it")
        yield failed("c", "broken", "repair it")
        raise AssertionError("it went on")

    with pytest.raises(PrerequisiteError, match="^broken: repair it$"):
        require(checks())


def test_warnings_let_a_job_start() -> None:
    require([warning("b", "not nice", "mend it")])
