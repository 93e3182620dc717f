"""Mistakes in the options of `orion-beam workers`; tests/integration/test_worker_pool.py has what it does."""

import pytest


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--listen", "0.0.0.0:0", "listen on 127.0.0.1, since a task manager needs its pool on its own host"),
        (
            "--metrics-listen",
            "0.0.0.0:0",
            "--metrics-listen 0.0.0.0:0 shows its pages to whoever reaches it: listen on",
        ),
        ("--metrics-listen", "[::]:0", "listen on 127.0.0.1, or give --metrics-token-file"),
        ("--metrics-token-file", "/no/such/file", "the token file /no/such/file cannot be read"),
        ("--worker-memory", "2GB", "--worker-memory '2GB' is no size: write it as 512MiB"),
        ("--worker-memory", "100MiB", "--worker-memory 100MiB: expected 512MiB or more"),
        ("--drain-limit", "soon", "--drain-limit 'soon' is no duration"),
        ("--token-file", "/no/such/file", "the token file /no/such/file cannot be read"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(orion_beam, option: str, value: str, says: str) -> None:
    answer = orion_beam("workers", option, value)
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert line.startswith("orion-beam: error: ")
    assert says in line
