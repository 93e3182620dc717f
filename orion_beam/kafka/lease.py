"""Who reads a topic in the name of a consumer group: at most one job, or every record comes out twice.

A stream assigns partitions to its readers itself, so Kafka does not see that two jobs share a group. Each reader
therefore keeps a member in another group, the lease, beside its consumer (`JobLease.java`): Kafka watches over its
heartbeats, and lets it go when it leaves or dies. Its client id says whose it is.
"""

import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple, Self

from confluent_kafka import KafkaError, KafkaException

from orion_beam.errors import UserError
from orion_beam.kafka.admin import admin_client
from orion_beam.kafka.retry import DEADLINE_S, KafkaRefusedError, retried

_TIME = "%Y%m%dT%H%M%SZ"
_LOOK_EVERY_S = 0.5
_DETECTION_S = 5.0
"""Until Kafka notices, once the session timeout is over."""


class Holder(NamedTuple):
    """A reader that holds the lease of a topic.

    Attributes:
        topic: that it reads.
        job: of the job, another one for each.
        since: when the job was submitted, in UTC.
        host: from where it was submitted,
        reader: and where this reader is, as the broker sees it.
    """

    topic: str
    job: str
    since: datetime
    host: str
    reader: str

    @classmethod
    def of(cls, client_id: str, reader: str) -> Self | None:
        """Return what a member's client id says; None: it is none of ours."""
        match client_id.split("/"):
            case ["orion", job, since, host, topic]:
                with suppress(ValueError):
                    return cls(topic, job, datetime.strptime(since, _TIME).replace(tzinfo=UTC), host, reader)
        return None

    def __str__(self) -> str:
        """Return it for people."""
        return (
            f"a job that was started on {self.host} at {self.since:%Y-%m-%dT%H:%M:%SZ} reads {self.topic}"
            f" (from {self.reader})"
        )


def lease_group(group_id: str) -> str:
    """Return the group that holds the leases of another."""
    return f"{group_id}.lease"


def new_lease() -> str:
    """Return a name for a job that is about to start: what comes in its client ids before the topic."""
    host = re.sub(r"[^\w.-]", "-", socket.gethostname())
    return f"orion/{uuid.uuid4().hex[:12]}/{datetime.now(UTC):{_TIME}}/{host}"


class Lease:
    """The lease of a consumer group: who holds it."""

    def __init__(self, bootstrap_servers: str, group_id: str) -> None:
        """Keep whom to ask, and for which group; nothing is asked yet."""
        self._bootstrap_servers = bootstrap_servers
        self._group = lease_group(group_id)
        self._admin = admin_client(bootstrap_servers)

    def holders(self, deadline_s: float = DEADLINE_S) -> list[Holder]:
        """Return all readers of the group's jobs that are alive, or have died less than a session timeout ago.

        Raises:
            PrerequisiteError: no coordinator answers before the deadline.
            KafkaRefusedError: the broker reports another error, such as that this user may not ask.
        """

        def ask(timeout_s: float) -> list[Holder | None]:
            try:
                (asked,) = self._admin.describe_consumer_groups([self._group], request_timeout=timeout_s).values()
                members = asked.result().members
            except KafkaException:
                # A client whose coordinator has restarted looks for it without end (librdkafka 2.16), another finds it.
                self._admin = admin_client(self._bootstrap_servers)
                raise
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
    """Make sure that no job of the group reads one of the topics, before another one starts.

    A job that was killed holds its lease until the session timeout of its consumers is over. So a lease that is held is
    waited for.

    Args:
        bootstrap_servers: the brokers.
        group_id: the consumer group whose offsets say where a job goes on.
        topics: that the new job is to read; jobs of one group that read others are no trouble.
        consumer: settings of the new job's consumers; a job that has died is taken to have had the same.
        report: is told, once, that this waits, and for whom.

    Raises:
        UserError: a job is alive; says which, since when, and what to do. Or this user may not ask.
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
            " have READ on it granted (kafka-acls --group); --allow-second-job starts without a look"
        ) from None
