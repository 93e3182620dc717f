"""Whether brokers can be reached from where this runs: on the machine that submits a job, or in one of its workers."""

import socket
from typing import NamedTuple

from orion_beam.kafka.admin import admin_client, cluster_metadata

_CONNECT_TIMEOUT_S = 3.0


class Reach(NamedTuple):
    """What came of trying.

    Attributes:
        brokers: how many there are.
        unreached: those that cannot be connected to, as `host:port (reason)`.
    """

    brokers: int
    unreached: list[str]


def unreached_brokers(bootstrap_servers: str) -> Reach:
    """Ask for the brokers, and connect to each at the address that it advertises, which is where clients are sent.

    Raises:
        PrerequisiteError: none of the bootstrap servers answers.
    """
    brokers = cluster_metadata(admin_client(bootstrap_servers), bootstrap_servers).brokers
    addresses = [(str(broker.host), broker.port) for broker in brokers.values()]
    reasons = {f"{host}:{port}": why_not_reached(host, port) for host, port in addresses}
    return Reach(len(reasons), [f"{address} ({reason})" for address, reason in reasons.items() if reason])


def why_not_reached(host: str, port: int) -> str:
    """Return why no TCP connection can be made, or the empty text when one can."""
    try:
        socket.create_connection((host, port), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""
