"""Checks of whether the workers of a cluster are ready for a job: their pool, and what a worker sees from its host."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import grpc

from orion_beam.doctor.findings import Check, failed, ok, skipped, warning
from orion_beam.doctor.kafka_checks import CLOCK_TOLERANCE_S
from orion_beam.kafka.reach import why_not_reached
from orion_beam.runners.doctor.machine import differences, installed_versions, pinned_versions
from orion_beam.runners.worker_pool.versions import ask_versions, own_versions, refusal

_PROBE_TIMEOUT_S = 60.0
_POOL = "worker pool"
_LOOPBACK = {"localhost", "127.0.0.1", "[::1]", "::1"}
_OTHER_VERSION = "run `orion-beam workers` of the job's version there, or submit from an environment of the pool's"


def check_pool(address: str, master: str | None = None) -> Check:
    """Check whether the pool answers and has the versions of this machine. Whether task managers reach it is not asked.

    A pool at a loopback address is on each task manager's own host. When it is not this host, the pool itself judges
    the job's versions as soon as Flink asks it for a worker.

    Args:
        address: Address of the pool (host:port), as task managers see it.
        master: URL of the JobManager. At a loopback address, the cluster and its pools are on this host.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return failed(_POOL, f"{address!r} is no host:port", "mend --environment_config")
    if reason := why_not_reached(host, int(port)):
        if _is_loopback(host) and not _is_loopback(urlsplit(master or "").hostname or ""):
            found = f"{address} is on each task manager's own host, where this cannot look: run doctor there"
            return skipped(_POOL, found)
        return failed(
            _POOL,
            f"{address} cannot be reached from here ({reason}); the task managers were not asked",
            "start it there: orion-beam workers --listen HOST:PORT",
        )
    try:
        versions = ask_versions(address)
    except grpc.RpcError as error:
        return failed(_POOL, f"{address} does not answer ({error.code().name})", "look at the log of the worker pool")
    if versions is None:
        return failed(_POOL, f"{address} is no worker pool of this version", _OTHER_VERSION)
    if why := refusal(own_versions(), versions):
        return failed(_POOL, why, _OTHER_VERSION)
    return ok(_POOL, f"{address} answers and has the versions of this machine; the task managers were not asked")


def _is_loopback(host: str) -> bool:
    return host in _LOOPBACK


def checks_from_workers(address: str, bootstrap_servers: str) -> Iterator[Check]:
    """Let the pool start a worker, and check from there: versions, brokers at their advertised addresses, clock.

    The worker connects back to this machine, as it would to a task manager. This takes some seconds.
    """
    command = [sys.executable, "-m", "orion_beam.runners.doctor.worker_probe", address, bootstrap_servers]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        yield skipped("from workers", f"no worker of {address} has connected back to this machine: nothing was checked")
        return
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        yield failed(
            "from workers", f"a worker of {address} cannot run this version ({reason[0]})", "install this version there"
        )
        return
    answer: dict[str, Any] = json.loads(done.stdout)
    yield _check_versions(answer["versions"])
    yield _check_brokers(answer["brokers"], answer["unreached"])
    yield _check_clock(answer["behind_s"], answer["took_s"])


def _check_versions(found: dict[str, str]) -> Check:
    here = installed_versions(dict.fromkeys([*pinned_versions(), "orion-beam"], ""))
    if wrong := differences(here, found):
        return failed("versions of workers", f"a worker has {wrong}", "install the same versions there as here")
    return ok("versions of workers", f"all {len(here)} packages as here")


def _check_brokers(brokers: int, unreached: list[str]) -> Check:
    if unreached:
        return failed(
            "brokers from workers",
            f"a worker cannot reach {', '.join(unreached)}",
            "mend advertised.listeners, or the network between the workers and these addresses",
        )
    return ok("brokers from workers", f"{brokers}, reached by a worker at their advertised addresses")


def _check_clock(behind_s: float, took_s: float) -> Check:
    # The worker read its clock at an unknown time within the call, so the call's duration is no skew.
    skew_s = max(0.0, abs(behind_s) - took_s)
    if skew_s > CLOCK_TOLERANCE_S:
        return warning("clock of workers", f"at least {skew_s:.0f} s off this machine's", "set both clocks by NTP")
    return ok("clock of workers", f"within {max(took_s, 0.1):.1f} s of this machine's")
