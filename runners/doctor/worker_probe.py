"""Probe of a worker pool: a pipeline of one element that runs in a worker and reports what the worker sees.

    python -m orion_beam.runners.doctor.worker_probe POOL_ADDRESS BOOTSTRAP_SERVERS

prints the answer as JSON. The probe is a process of its own, so that its caller can stop it when no worker ever
connects.
"""

import json
import socket
import sys
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import ExternalEnvironment

from orion_beam.errors import UserError
from orion_beam.kafka.login import login_file, use_login_file
from orion_beam.kafka.reach import unreached_brokers
from orion_beam.runners.doctor.machine import installed_versions, pinned_versions
from orion_beam.runners.worker_pool.token import with_token

_NAMESPACE, _ANSWER = "orion", "answer"


def _look(bootstrap_servers: str, login: str | None) -> None:
    """Collect, in the worker, what it sees, and return it as a metric: elements do not come back to this process."""
    try:
        use_login_file(login)
        brokers, unreached = unreached_brokers(bootstrap_servers)
    except UserError as error:
        brokers, unreached = 0, [str(error)]
    answer = {
        "clock_s": time.time(),
        "brokers": brokers,
        "unreached": unreached,
        "versions": installed_versions(dict.fromkeys([*pinned_versions(), "orion-beam"], "")),
    }
    Metrics.string_set(_NAMESPACE, _ANSWER).add(json.dumps(answer))


def ask_worker(address: str, bootstrap_servers: str) -> dict[str, Any]:
    """Return what a worker of a pool sees.

    Args:
        address: Address of the pool (host:port).
        bootstrap_servers: The brokers to look for.

    Returns:
        `brokers` and `unreached` (see `unreached_brokers`), `versions` (by package), `behind_s` (how far the worker's
        clock is behind this one; negative when ahead), `took_s` (duration of the call, within which the worker read
        its clock).
    """
    _listen_for(address)
    runner = FnApiRunner(default_environment=ExternalEnvironment(address))
    pipeline = beam.Pipeline(runner=runner, options=PipelineOptions([]))
    pipeline | beam.Create([bootstrap_servers], reshuffle=False) | "Look" >> beam.Map(_look, login_file())
    began = time.time()
    result = pipeline.run()
    result.wait_until_finish()
    ended = time.time()
    found = result.metrics().query(MetricsFilter().with_namespace(_NAMESPACE).with_name(_ANSWER))["string_sets"]
    (text,) = found[0].committed
    answer: dict[str, Any] = json.loads(text)
    return answer | {"behind_s": (began + ended) / 2 - answer.pop("clock_s"), "took_s": ended - began}


def _listen_for(pool: str) -> None:
    """Make Beam listen only at the address of this machine that leads to the pool, and tell workers that address.

    Beam itself listens at all addresses and tells workers this machine's host name, which they often cannot resolve.
    """
    host, _, port = pool.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect((host, int(port)))  # a datagram socket sends nothing here
        own = route.getsockname()[0]
    worker_handlers.ExternalWorkerHandler.host_from_worker = lambda _: own
    worker_handlers.grpc = SimpleNamespace(**vars(grpc) | {"server": partial(_server_at, own)})
    plain = worker_handlers.GRPCChannelFactory.insecure_channel
    worker_handlers.GRPCChannelFactory = SimpleNamespace(insecure_channel=lambda *given: with_token(plain(*given)))


def _server_at(address: str, *arguments: Any, **options: Any) -> Any:
    server = grpc.server(*arguments, **options)
    add_port = server.add_insecure_port
    server.add_insecure_port = lambda _: add_port(f"{address}:0")
    return server


if __name__ == "__main__":
    # Imported by its name, so that the worker can import `_look`: the worker has another `__main__`.
    from orion_beam.runners.doctor import worker_probe

    print(json.dumps(worker_probe.ask_worker(*sys.argv[1:])))
