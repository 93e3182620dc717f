"""A job whose parent is killed with SIGKILL, and had asked for that, ends with all that it has started."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from orion_beam.runners.local.kafka import LocalKafka
from orion_beam.runners.local.processes import is_alive
from tests.integration.harness import START_TIMEOUT_S, STOP_TIMEOUT_S, Feed, await_until, records_on

pytestmark = pytest.mark.integration

_PARENT = """
import os, subprocess, sys
from orion_beam.runners.jars.build import guard_environment
command = [sys.executable, "-m", "orion_beam.cli.main", *sys.argv[1:]]
job = subprocess.Popen(command, env=os.environ | guard_environment())
print(job.pid, flush=True)
job.wait()
"""


def test_a_job_ends_with_a_parent_that_is_killed(kafka: LocalKafka, tmp_path: Path) -> None:
    servers = kafka.bootstrap_servers
    feed = Feed(servers)
    feed.send_generated("FR", 100)
    feed.flush()
    run = ["run", "--bootstrap-servers", servers, "--countries", "FR"]
    with (tmp_path / "job.log").open("wb") as log:
        parent = subprocess.Popen(
            [sys.executable, "-c", _PARENT, *run],
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    assert parent.stdout is not None
    job = psutil.Process(int(parent.stdout.readline()))
    family = [job]
    try:
        await_until(lambda: records_on(servers, "cdr.final", "cdr.dlq") == 100, START_TIMEOUT_S, "all has come out")
        family += job.children(recursive=True)
        assert {"java"} < {one.name() for one in family}

        parent.kill()
        await_until(lambda: not any(map(is_alive, family)), STOP_TIMEOUT_S, "nothing is left of the job")
    finally:
        for one in filter(is_alive, family):
            one.kill()
        parent.kill()
        parent.wait()
        parent.stdout.close()
