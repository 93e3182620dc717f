"""What this user may do on a cluster, as its brokers tell it, before a command starts on something that it may not."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from enum import Enum
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]  # re-exported implicitly

from orion_beam.access.roles import Resource, Right, rights_of
from orion_beam.defaults import Role
from orion_beam.errors import PrerequisiteError
from orion_beam.kafka.admin import GroupQuery, admin_client, at_controller
from orion_beam.kafka.retry import DEADLINE_S, is_retriable, retried

_DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}

Answers = Mapping[str, "Future[Any]"]


def lacking(bootstrap_servers: str, rights: Iterable[Right], deadline_s: float = DEADLINE_S) -> list[Right] | None:
    """Return the rights on topics and groups that this user lacks; None if the brokers do not tell.

    Rights on other resources, and on topics that do not exist, cannot be asked for, and count as there. A broker
    without an authorizer lets everybody do everything.

    Raises:
        PrerequisiteError: No broker answers before the deadline.
        KafkaRefusedError: The broker reports another error.
    """
    wanted = list(rights)
    admin = admin_client(bootstrap_servers)  # kept in a variable: its answers are valid only while it exists
    calls: Mapping[ResourceType, Callable[[list[str], float], Answers]] = {
        ResourceType.TOPIC: lambda names, timeout_s: at_controller(admin).describe_topics(
            TopicCollection(names), include_authorized_operations=True, request_timeout=timeout_s
        ),
        ResourceType.GROUP: partial(GroupQuery(bootstrap_servers).ask, with_rights=True),
    }
    missing = []
    for kind, call in calls.items():
        asked = [right for right in wanted if right.kind is kind]
        if not asked:
            continue
        names = list(dict.fromkeys(right.name for right in asked))

        def ask(timeout_s: float, call: Any = call, names: list[str] = names) -> dict[str, list[Enum] | None]:
            return {name: _granted(answer) for name, answer in call(names, timeout_s).items()}

        granted = retried("what this user may do", bootstrap_servers, ask, deadline_s=deadline_s)
        for right in asked:
            operations = granted[right.name]
            if operations is None:
                return None
            if right.operation not in operations:
                missing.append(right)
    return missing


def _granted(answer: "Future[Any]") -> list[Enum] | None:
    try:
        operations: list[Enum] | None = answer.result().authorized_operations
    except KafkaException as error:
        code = error.args[0].code()
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return list(AclOperation)
        if code not in _DENIED or is_retriable(error.args[0]):
            raise
        return []
    return operations


def words_of(rights: Iterable[Right]) -> str:
    """Return rights as a text for people, such as `READ topic cdr.raw.FR, nor WRITE topic cdr.final`."""
    return ", nor ".join(map(str, rights))


def require_rights(bootstrap_servers: str, role: Role, names: Mapping[Resource, Iterable[str]]) -> None:
    """Check that this user has the rights of a role, before a command starts.

    Raises:
        PrerequisiteError: A right is missing; names all missing ones and the fix. Or no broker answers.
        KafkaRefusedError: The broker reports another error.
    """
    if missing := lacking(bootstrap_servers, rights_of(role, names)):
        raise PrerequisiteError(f"Kafka at {bootstrap_servers}: this user may not {words_of(missing)}: {fix_of(role)}")


def fix_of(role: Role) -> str:
    """Return what to do about missing rights of a role."""
    return f"have the ACLs of the role {role} applied (orion-beam acls apply --principal {role}=USER)"
