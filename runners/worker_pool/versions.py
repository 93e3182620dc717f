"""Versions that a job and its workers must share, and the line by which a pool refuses a job of other versions.

A job carries its versions in the parameters of its environment (Beam's ExternalPayload). A task manager passes them on
with every request for a worker, so a pool that only task managers can reach judges the job, too.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from orion_beam.errors import UserError
from orion_beam.schemas import VERSION
from orion_beam.schemas.avro_format import fingerprint
from orion_beam.schemas.cdr import SCHEMA_VERSION, UnifiedCdr
from orion_beam.schemas.derive import avro_schema

REFUSAL = "the worker pool refuses this job"
"""Beginning of the line by which a pool refuses a job. Flink's exceptions hold it when no submitter could see it."""

VERSIONS_METHOD = "/orion.beam.WorkerPool/Versions"
"""gRPC method of a pool that returns its versions as JSON. It needs no token, since it starts nothing."""

_TIMEOUT_S = 5.0
_NAMES = {"orion-beam": "orion-beam", "apache-beam": "Beam", "python": "Python", "schema": "the schema of CDRs"}


@cache
def own_versions() -> Mapping[str, str]:
    """Return the versions of this process.

    Functions of a job are pickled, which only the same minor version of Python reads. The schema has its fingerprint
    beside its number, so that two builds of one version are told apart.
    """
    return {
        "orion-beam": VERSION,
        "apache-beam": beam.__version__,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "schema": f"{SCHEMA_VERSION} ({fingerprint(avro_schema(UnifiedCdr)).hex()})",
    }


def refusal(job: Mapping[str, str], pool: Mapping[str, str]) -> str:
    """Return why a pool refuses a job, in one line; the empty text if it does not.

    Args:
        job: Versions of the job. A job that tells none, such as one of plain Beam, is not refused.
        pool: Versions of the pool.
    """
    wrong = [
        f"{name} {pool[key]} in the pool, {job[key]} in the job"
        for key, name in _NAMES.items()
        if key in job and key in pool and job[key] != pool[key]
    ]
    return f"{REFUSAL}: {'; '.join(wrong)}" if wrong else ""


def with_versions(arguments: Sequence[str]) -> list[str]:
    """Return Beam's options for a job with its versions added to the address of its worker pool.

    Args:
        arguments: Beam's options. Without a pool (`--environment_type=EXTERNAL`), they are returned as they are.

    Raises:
        UserError: `--environment_config` is neither an address nor Beam's JSON.
    """
    options = PipelineOptions(list(arguments)).view_as(PortableOptions)
    if options.environment_type != "EXTERNAL" or not options.environment_config:
        return list(arguments)
    config = _environment(options.environment_config)
    config["params"] = config.get("params", {}) | own_versions()
    return [*arguments, f"--environment_config={json.dumps(config)}"]


def pool_address(environment_config: str) -> str:
    """Return the address (host:port) of the pool in a value of `--environment_config`: an address, or Beam's JSON."""
    return str(_environment(environment_config).get("url", ""))


def _environment(config: str) -> dict[str, Any]:
    if not config.lstrip().startswith("{"):
        return {"url": config}
    try:
        return dict(json.loads(config))
    except ValueError:
        raise UserError('--environment_config: expected HOST:PORT, or JSON such as {"url": "HOST:PORT"}') from None


def ask_versions(address: str) -> Mapping[str, str] | None:
    """Return the versions of the pool at an address; None if what answers there is no pool of this product.

    Raises:
        grpc.RpcError: Nothing answers.
    """
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            return json.loads(channel.unary_unary(VERSIONS_METHOD)(b"", timeout=_TIMEOUT_S))  # type: ignore[no-any-return]
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise


def versions_handler() -> grpc.GenericRpcHandler:
    """Return the handler that answers `ask_versions`."""
    service, _, method = VERSIONS_METHOD[1:].partition("/")
    answer = json.dumps(dict(own_versions())).encode()
    return grpc.method_handlers_generic_handler(
        service, {method: grpc.unary_unary_rpc_method_handler(lambda _, __: answer)}
    )
