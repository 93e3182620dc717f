"""What Beam's services answer to callers that do not come by the loopback address, as those of other hosts do."""

from contextlib import suppress
from socket import AF_INET

import grpc
import psutil
import pytest

SERVICES = (
    "expansion.v1.ExpansionService/Expand",
    "fn_execution.v1.BeamFnControl/Control",
    "fn_execution.v1.BeamFnData/Data",
    "fn_execution.v1.BeamFnLogging/Logging",
    "fn_execution.v1.BeamFnState/State",
    "fn_execution.v1.ProvisionService/GetProvisionInfo",
    "job_management.v1.ArtifactRetrievalService/ResolveArtifacts",
    "job_management.v1.ArtifactStagingService/ReverseArtifactRetrievalService",
    "job_management.v1.JobService/GetJobs",
)
"""A method of each of Beam's services."""


def own_address() -> str:
    """Return an address of this host that is none of loopback; skip the test if there is none."""
    addresses = [each.address for of_one in psutil.net_if_addrs().values() for each in of_one if each.family == AF_INET]
    found = next((address for address in addresses if not address.startswith("127.")), None)
    if found is None:
        pytest.skip("this host has a loopback address only")
    return found


def answers_of(host: str, port: int) -> dict[str, grpc.StatusCode]:
    """Return how a port answers a call of each service that it has."""
    answers = {}
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for service in SERVICES:
            call = channel.stream_stream(f"/org.apache.beam.model.{service}")(iter(()), timeout=60)
            with suppress(grpc.RpcError):
                list(call)
            if call.code() is not grpc.StatusCode.UNIMPLEMENTED:
                answers[service] = call.code()
    return answers


def open_ports(process: psutil.Process) -> set[int]:
    """Return the ports that a process has open to other hosts."""
    return {
        each.laddr.port
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.ip in ("::", "0.0.0.0")
    }


def assert_refused(answers: dict[str, grpc.StatusCode], port: int) -> None:
    """Check that a port serves Beam, and refuses every call."""
    assert set(answers.values()) == {grpc.StatusCode.PERMISSION_DENIED}, (port, answers)
