"""Check that brokers can be reached from this machine: the one that submits a job, or one of its workers."""

import socket
from typing import NamedTuple

from orion_beam.kafka.admin import admin_client, cluster_metadata

_CONNECT_TIMEOUT_S = 3.0


class Reach(NamedTuple):
    """Result of connecting to all brokers.

    Attributes:
        brokers: Number of brokers.
        unreached: Brokers to which no connection can be made, as `host:port (reason)`.
    """

    brokers: int
    unreached: list[str]


def unreached_brokers(bootstrap_servers: str) -> Reach:
    """Connect to each broker at the address that it advertises: Kafka sends clients to that address.

    Raises:
        PrerequisiteError: No bootstrap server answers.
    """
    brokers = cluster_metadata(admin_client(bootstrap_servers), bootstrap_servers).brokers
    addresses = [(str(broker.host), broker.port) for broker in brokers.values()]
    reasons = {f"{host}:{port}": why_not_reached(host, port) for host, port in addresses}
    return Reach(len(reasons), [f"{address} ({reason})" for address, reason in reasons.items() if reason])


def why_not_reached(host: str, port: int) -> str:
    """Return the reason why no TCP connection can be made, or the empty text if one can."""
    try:
        socket.create_connection((host, port), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""
