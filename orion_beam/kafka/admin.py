"""Admin calls to Kafka's brokers: queries, and changes of topics. Calls are retried on transient errors."""

import socket
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any

from confluent_kafka import OFFSET_INVALID, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AdminClient,
    ClusterMetadata,
    ConsumerGroupDescription,
    ListOffsetsResultInfo,
    OffsetSpec,
)
from confluent_kafka.cimpl import NewTopic

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.kafka.login import login_settings
from orion_beam.kafka.retry import KafkaRefusedError, refusals_of, retried

_REFUSALS = {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}

TIMEOUT_S = 10
"""Seconds without an answer after which all brokers count as unreachable."""

_LOOK_TIMEOUT_S = 3.0

_LONGEST_REQUEST_S = 3_600
"""Longest timeout of a request that librdkafka takes."""


def topic_ids(bootstrap_servers: str, names: Iterable[str]) -> dict[str, str]:
    """Return Kafka's ids of existing topics, by name. A topic that is deleted and created again has another id.

    Raises:
        PrerequisiteError: No broker answers before the deadline.
        KafkaRefusedError: The broker refuses.
    """
    wanted = list(names)
    if not wanted:
        return {}
    admin = admin_client(bootstrap_servers)

    def ask(timeout_s: float) -> dict[str, str]:
        described = at_controller(admin).describe_topics(TopicCollection(wanted), request_timeout=timeout_s)
        return {name: str(future.result().topic_id) for name, future in described.items()}

    return retried(f"the ids of {', '.join(wanted)}", bootstrap_servers, ask, topics_exist=True)


def create(bootstrap_servers: str, topics: Iterable[NewTopic]) -> list[str]:
    """Create topics, and wait until their partitions have leaders. Topics that exist are left as they are.

    Returns:
        The names of the created topics.

    Raises:
        PrerequisiteError: A partition has no leader at the deadline.
        UserError: The broker refuses.
    """
    requests = {topic.topic: topic for topic in topics}
    admin = admin_client(bootstrap_servers)  # named, so that it lives until its calls are answered
    refused = refusals_of(
        "new topics",
        bootstrap_servers,
        requests,
        lambda names: at_controller(admin).create_topics(
            # Without a limit of its own an attempt may wait for a controller that has just left until the deadline.
            [requests[name] for name in names],
            operation_timeout=TIMEOUT_S,
            request_timeout=TIMEOUT_S,
        ),
    )
    for name, error in refused.items():
        if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process has created it meanwhile
            raise UserError(f"topic {name} cannot be created: {error.str()}")
    # A user may have the right to create a topic, but not to describe it.
    with suppress(KafkaRefusedError):
        _await_leaders(admin, bootstrap_servers, requests)
    return [name for name in requests if name not in refused]


def at_controller(admin: AdminClient) -> AdminClient:
    """Make a client look up the present controller, and return the client.

    Without it, librdkafka (2.16) waits without end for a controller that has left. An error of this look-up is ignored:
    the call that follows gets the same error and reports it.
    """
    with suppress(KafkaException):
        admin.list_topics(timeout=TIMEOUT_S)
    return admin


def _await_leaders(admin: "QuietAdminClient", bootstrap_servers: str, topics: Iterable[str]) -> None:
    """Wait until leaders answer for all partitions: until then, brokers refuse producers and consumers there."""
    names = set(topics)

    def ask(timeout_s: float) -> None:
        known = admin.list_topics(timeout=timeout_s).topics
        if not names <= known.keys():
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        parts = [TopicPartition(name, partition) for name in names for partition in known[name].partitions]
        ask_offsets(admin, parts, OffsetSpec.latest(), timeout_s)  # type: ignore[no-untyped-call]

    if names:
        retried("the leaders of new topics", bootstrap_servers, ask, topics_exist=True)


def ask_offsets(
    admin: AdminClient,
    parts: Iterable[TopicPartition],
    spec: OffsetSpec,
    timeout_s: float,
    level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[TopicPartition, ListOffsetsResultInfo]:
    """Ask the leaders of partitions for offsets, once; `orion_beam.kafka.offset_ranges.list_offsets` retries.

    Raises:
        KafkaException: A leader does not answer, or answers with an error.
    """
    answers = admin.list_offsets(dict.fromkeys(parts, spec), isolation_level=level, request_timeout=timeout_s)
    try:
        found = {part: answer.result() for part, answer in answers.items()}
        # librdkafka (2.16) reports no error when a leader has not answered.
        if any(of_it.offset == OFFSET_INVALID for of_it in found.values()):
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    except KafkaException:
        # librdkafka looks up no leader again for this request: it would ask the same broker, or one that leads once
        # more for the epoch of its first time, until what it knows is 15 minutes old.
        admin.list_topics(timeout=timeout_s)
        raise
    return found


def require_topics(bootstrap_servers: str, topics: Iterable[str]) -> None:
    """Check, before a job starts, that the broker answers and has these topics.

    Raises:
        PrerequisiteError: The broker cannot be reached within 10 s, or lacks a topic; names both and the fix.
    """
    require_among(topic_names(bootstrap_servers), bootstrap_servers, topics)


def require_among(known: Iterable[str], bootstrap_servers: str, topics: Iterable[str]) -> None:
    """Check that topics are among those that the broker has shown.

    Raises:
        PrerequisiteError: The broker lacks a topic, or does not let this user see it; names both and the fix.
    """
    missing = sorted(set(topics) - set(known))
    require_sight(bootstrap_servers, missing)
    if missing:
        raise PrerequisiteError(
            f"Kafka at {bootstrap_servers} has no topic {', '.join(missing)}: create it with"
            " `orion-beam topics apply`, for development with `orion-beam local up`"
        )


def require_sight(bootstrap_servers: str, topics: Iterable[str]) -> None:
    """Check that this user may see topics, whether they exist or not.

    Raises:
        PrerequisiteError: It may not; names the topics and the fix.
    """
    if hidden := _hidden(bootstrap_servers, sorted(topics)):
        raise PrerequisiteError(
            f"Kafka at {bootstrap_servers} does not let this user see topic {', '.join(hidden)}: have the rights of its"
            " role granted with `orion-beam acls apply`"
        )


def _hidden(bootstrap_servers: str, topics: list[str]) -> list[str]:
    """Return the topics that this user may not see, whether they exist or not: a list of all topics leaves them out."""
    admin = admin_client(bootstrap_servers)

    def ask(timeout_s: float) -> list[str]:
        answers = at_controller(admin).describe_topics(TopicCollection(topics), request_timeout=timeout_s)
        errors = {topic: answer.exception() for topic, answer in answers.items()}
        return [
            topic
            for topic, error in errors.items()
            if isinstance(error, KafkaException) and error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        ]

    return retried(f"whether it has {', '.join(topics)}", bootstrap_servers, ask) if topics else []


class QuietAdminClient(AdminClient):
    """Admin client that reconnects soon and logs nothing, so that the caller alone reports an unreachable broker."""

    def __init__(self, bootstrap_servers: str) -> None:
        """Connect in the background, with the login of this process."""
        self._errors: list[KafkaError] = []
        settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap_servers,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
            "error_cb": self._errors.append,
        }
        super().__init__(login_settings() | settings)

    @property
    def refusal(self) -> str:
        """Reason of the last failed login (SASL or TLS), or the empty text."""
        self.poll(0)
        texts = [error.str() for error in self._errors if error.code() in _REFUSALS]
        return texts[-1] if texts else ""


def admin_client(bootstrap_servers: str) -> QuietAdminClient:
    """Return a client for admin calls."""
    return QuietAdminClient(bootstrap_servers)


class GroupQuery:
    """Query for the descriptions of consumer groups, over a connection that it keeps while all goes well.

    librdkafka (2.16) aborts the process when the coordinator of a request that has timed out comes back
    (`rd_kafka_enq_once_del_source_return: Assertion eonce->refcnt > 0`, librdkafka issue 4605). So no request times out
    here: this waits beside it, and then drops the client, which ends its requests.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        """Take the brokers; ask nothing yet."""
        self._bootstrap_servers = bootstrap_servers
        self._admin: QuietAdminClient | None = None

    def ask(
        self, groups: Iterable[str], timeout_s: float, *, with_rights: bool = False
    ) -> Mapping[str, "Future[ConsumerGroupDescription]"]:
        """Ask the groups' coordinators, once.

        Args:
            groups: Group ids.
            timeout_s: Seconds to wait for all answers.
            with_rights: Whether descriptions say what this user may do to the group.

        Returns:
            The answer of each group, which is there.

        Raises:
            KafkaException: An answer is not there in time (`_TIMED_OUT`).
        """
        admin = self._admin or admin_client(self._bootstrap_servers)
        self._admin = None
        answers: Mapping[str, Future[ConsumerGroupDescription]] = admin.describe_consumer_groups(
            list(groups), include_authorized_operations=with_rights, request_timeout=_LONGEST_REQUEST_S
        )
        if wait(answers.values(), timeout_s).not_done:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        # A client whose coordinator has restarted looks for it without end; a new client finds it.
        if not any(answer.exception() for answer in answers.values()):
            self._admin = admin
        return answers


def _why_not_trusted(bootstrap_servers: str) -> str:
    """Return the first broker whose certificate is not right, and why; the empty text if there is none.

    librdkafka names neither a wrong host name nor an expired certificate: to it, each is one that cannot be verified.
    """
    login = login_settings()
    is_verified = login.get("enable.ssl.certificate.verification", "true").lower() == "true"
    if login.get("security.protocol", "").lower() not in ("ssl", "sasl_ssl") or not is_verified:
        return ""
    context = ssl.create_default_context(cadata=login.get("ssl.ca.pem"))
    context.check_hostname = login.get("ssl.endpoint.identification.algorithm") != "none"
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            with (
                socket.create_connection((host.strip("[]"), int(port)), _LOOK_TIMEOUT_S) as plain,
                context.wrap_socket(plain, server_hostname=host.strip("[]")),
            ):
                pass
        except ssl.SSLCertVerificationError as error:
            return f"{server.strip()}: {error.verify_message}"
        except (OSError, ValueError):
            continue  # the client's own error says more
    return ""


def topic_names(bootstrap_servers: str) -> set[str]:
    """Return the names of all topics.

    Raises:
        PrerequisiteError: The broker cannot be reached.
    """
    return set(cluster_metadata(admin_client(bootstrap_servers), bootstrap_servers).topics)


def cluster_metadata(admin: QuietAdminClient, bootstrap_servers: str) -> ClusterMetadata:
    """Return the brokers and topics of a cluster.

    Raises:
        PrerequisiteError: No broker answers within 10 s, or the brokers refuse the login.
    """

    def ask(timeout_s: float) -> ClusterMetadata:
        try:
            return admin.list_topics(timeout=timeout_s)
        except KafkaException:
            if refusal := admin.refusal:
                if untrusted := _why_not_trusted(bootstrap_servers):
                    raise PrerequisiteError(
                        f"Kafka at {bootstrap_servers} does not show who it is (certificate verify failed for"
                        f" {untrusted}): mend its certificate, or name the authority that signed it as ssl.ca.location"
                        " in the file of --kafka-config"
                    ) from None
                raise PrerequisiteError(
                    f"Kafka at {bootstrap_servers} does not let this client in ({refusal}):"
                    f" say how to log in, as `orion-beam --kafka-config FILE` or in {CONFIG_VARIABLE}"
                ) from None
            raise

    fix = "check the address, log in by --kafka-config if it wants that, or start one with `orion-beam local up`"
    return retried("its topics", bootstrap_servers, ask, deadline_s=TIMEOUT_S, fix=fix)
