"""Lease of a consumer group: it ensures that at most one job reads a topic, or every record comes out twice.

A stream assigns partitions to its readers itself, so Kafka does not see that two jobs share a group. Beside its
consumer, each reader therefore keeps a member in a second group, the lease (`JobLease.java`). Kafka watches the
member's heartbeats, and removes it when it leaves or dies. The client id of the member names its submission.

The readers settle among themselves who holds the lease, and the others end their jobs. This module looks before a job
starts, which is sooner and changes nothing.
"""

import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple, Self

from confluent_kafka import KafkaError

from orion_beam.errors import UserError
from orion_beam.kafka.admin import GroupQuery
from orion_beam.kafka.retry import DEADLINE_S, KafkaRefusedError, retried

_TIME = "%Y%m%dT%H%M%SZ"
_LOOK_EVERY_S = 0.5
_REFUSAL = re.compile(r"group \S+: a job that was started on .* holds the lease of .*")
_DETECTION_S = 5.0
"""Seconds that Kafka may take to remove a dead member once its session timeout is over."""


class Holder(NamedTuple):
    """Reader that holds the lease of a topic.

    Attributes:
        topic: Topic that it reads.
        job: Random id of its job.
        since: Time at which the job was submitted, in UTC.
        host: Name of the host that submitted the job.
        reader: Address of the reader, as the broker sees it.
    """

    topic: str
    job: str
    since: datetime
    host: str
    reader: str

    @classmethod
    def of(cls, client_id: str, reader: str) -> Self | None:
        """Parse a member's client id; return None if it is not a lease of this product."""
        match client_id.split("/"):
            case ["orion", job, since, host, topic]:
                with suppress(ValueError):
                    return cls(topic, job, datetime.strptime(since, _TIME).replace(tzinfo=UTC), host, reader)
        return None

    def __str__(self) -> str:
        """Return a description for people."""
        return (
            f"a job that was started on {self.host} at {self.since:%Y-%m-%dT%H:%M:%SZ} reads {self.topic}"
            f" (from {self.reader})"
        )


def lease_group(group_id: str) -> str:
    """Return the name of the group that holds the leases of a consumer group."""
    return f"{group_id}.lease"


def new_lease() -> str:
    """Return an identity for a new submission: the beginning of its members' client ids, before the topic.

    It outlives restarts by Flink. Another submission has another one, also if it goes on from a savepoint.
    """
    host = re.sub(r"[^\w.-]", "-", socket.gethostname())
    return f"orion/{uuid.uuid4().hex[:12]}/{datetime.now(UTC):{_TIME}}/{host}"


def refusal_in(text: str) -> str | None:
    """Return the line that says that a running job has ended because another one holds its lease; None without one."""
    found = _REFUSAL.search(text)
    return found and found[0]


class Lease:
    """Query for the holders of a consumer group's lease."""

    def __init__(self, bootstrap_servers: str, group_id: str) -> None:
        """Take the brokers and the consumer group; ask nothing yet."""
        self._bootstrap_servers = bootstrap_servers
        self._group = lease_group(group_id)
        self._query = GroupQuery(bootstrap_servers)

    def holders(self, deadline_s: float = DEADLINE_S) -> list[Holder]:
        """Return the readers of the group's jobs that are alive, or died less than a session timeout ago.

        Raises:
            PrerequisiteError: No coordinator answers before the deadline.
            KafkaRefusedError: The broker reports another error, for instance that this user lacks the right.
        """

        def ask(timeout_s: float) -> list[Holder | None]:
            members = self._query.ask([self._group], timeout_s)[self._group].result().members
            return [Holder.of(member.client_id, member.host.lstrip("/")) for member in members]

        what = f"who holds the lease of group {self._group}"
        found = retried(what, self._bootstrap_servers, ask, deadline_s=deadline_s)
        return [holder for holder in found if holder is not None]


def await_free(
    bootstrap_servers: str,
    group_id: str,
    topics: Iterable[str],
    consumer: Mapping[str, str],
    report: Callable[[str], None],
) -> None:
    """Ensure that no job of the group reads one of the topics, before another one starts.

    A killed job holds its lease until the session timeout of its consumers is over. So this waits that long for a lease
    to become free.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        group_id: Consumer group whose committed offsets say where a job continues.
        topics: Topics that the new job reads. Jobs of the group that read other topics do not matter.
        consumer: Settings of the new job's consumers. A killed job is assumed to have had the same session timeout.
        report: Called once with a line for people, if this waits.

    Raises:
        UserError: Another job is alive; names it, its start and the fix. Or this user may not read the lease's group.
    """
    wanted = set(topics)
    lease = Lease(bootstrap_servers, group_id)
    patience_s = int(consumer["session.timeout.ms"]) / 1000 + _DETECTION_S
    give_up = time.monotonic() + patience_s
    has_told = False
    while held := [holder for holder in _asked(lease, group_id) if holder.topic in wanted]:
        who = f"group {group_id}: {min(held, key=lambda holder: holder.since)}"
        if time.monotonic() > give_up:
            raise UserError(
                f"{who}; with a second one every record comes out twice: stop that job (Ctrl-C in its `orion-beam run`,"
                " or cancel it on Flink's page), or give this one another --group-id;"
                " --allow-second-job starts it all the same"
            )
        if not has_told:
            report(f"{who}; waiting up to {patience_s:.0f} s, in case that it has just died")
            has_told = True
        time.sleep(_LOOK_EVERY_S)


def _asked(lease: Lease, group_id: str) -> list[Holder]:
    try:
        return lease.holders()
    except KafkaRefusedError as refused:
        if refused.error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise
        raise UserError(
            f"this user may not read as group {lease_group(group_id)}, which says what jobs of {group_id} are alive:"
            " have READ on it granted (`orion-beam acls` knows how); --allow-second-job starts without a look"
        ) from None
