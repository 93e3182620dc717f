"""ACLs of a cluster: what is missing for the roles' users and what they have too much, and the changes that mend it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from confluent_kafka import KafkaError
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from orion_beam.access.roles import Resource, kind_name, rights_of
from orion_beam.defaults import Role
from orion_beam.errors import UserError
from orion_beam.kafka.admin import TIMEOUT_S, admin_client, at_controller
from orion_beam.kafka.retry import DEADLINE_S, KafkaRefusedError, refusals_of, retried

EVERYBODY = "User:*"
"""Principal whose rights everybody has."""

_ANY_HOST = "*"
_LOOK_EVERY_S = 0.1
_AUTHORIZER = "authorizer.class.name"
_NO_AUTHORIZER = (
    f"has no authorizer, so everybody may do everything: set {_AUTHORIZER} of its brokers"
    " (org.apache.kafka.metadata.authorizer.StandardAuthorizer)"
)
_REFUSED = "this user may not {} ACLs: log in as one who has {} on the cluster, or as a super user"


_KINDS = {kind_name(kind): kind for kind in ResourceType}


class Acl(NamedTuple):
    """An ACL of Kafka.

    Attributes:
        principal: Whom it is for, such as `User:orion-stream`.
        kind: Kind of resource: topic, group, transactional id or cluster.
        name: Name of the resource.
        operation: Name of Kafka's operation, such as READ.
        pattern: How `name` is matched: LITERAL or PREFIXED.
        permission: ALLOW or DENY.
        host: Address from which it holds; `*` is every one.
    """

    principal: str
    kind: str
    name: str
    operation: str
    pattern: str = ResourcePatternType.LITERAL.name
    permission: str = AclPermissionType.ALLOW.name
    host: str = _ANY_HOST

    def __str__(self) -> str:
        """Return a description for people."""
        may = "may" if self.permission == AclPermissionType.ALLOW.name else "may not"
        where = "" if self.host == _ANY_HOST else f" from {self.host}"
        star = "…" if self.pattern == ResourcePatternType.PREFIXED.name else ""
        return f"{self.principal} {may} {self.operation} {self.kind} {self.name}{star}{where}"


@dataclass(frozen=True)
class AclPlan:
    """Difference between the ACLs of a cluster and those that the roles need.

    Attributes:
        missing: ACLs that the users of the roles lack.
        excess: ACLs that these users have and need not.
        everybody: ACLs of everybody (`User:*`), which give or take rights beside those of the roles.
    """

    missing: tuple[Acl, ...]
    excess: tuple[Acl, ...]
    everybody: tuple[Acl, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the users of the roles have what they need and no more."""
        return not self.missing and not self.excess


def wanted_acls(principals: Mapping[Role, Sequence[str]], names: Mapping[Resource, tuple[str, ...]]) -> tuple[Acl, ...]:
    """Return the ACLs that the users of roles need, sorted.

    Args:
        principals: Users of each role.
        names: Names of the resources of each place.
    """
    return tuple(
        sorted(
            {
                Acl(principal, kind_name(right.kind), right.name, right.operation.name)
                for role, users in principals.items()
                for principal in users
                for right in rights_of(role, names)
            }
        )
    )


def plan_acls(bootstrap_servers: str, wanted: Iterable[Acl]) -> AclPlan:
    """Compare the ACLs of a cluster with the wanted ones.

    Raises:
        PrerequisiteError: No broker answers before the deadline.
        UserError: The cluster has no authorizer, or this user may not see ACLs.
    """
    needed = set(wanted)
    principals = {acl.principal for acl in needed}
    present = set(_present(bootstrap_servers))
    return AclPlan(
        missing=tuple(sorted(needed - present)),
        excess=tuple(sorted(acl for acl in present - needed if acl.principal in principals)),
        everybody=tuple(sorted(acl for acl in present if acl.principal == EVERYBODY)),
    )


def _present(bootstrap_servers: str) -> list[Acl]:
    admin = admin_client(bootstrap_servers)  # kept in a variable: its answers are valid only while it exists
    anything: Any = None  # missing in the declared types
    every = AclBindingFilter(
        ResourceType.ANY,
        anything,
        ResourcePatternType.ANY,
        anything,
        anything,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )

    def ask(timeout_s: float) -> list[Acl]:
        found = at_controller(admin).describe_acls(every, request_timeout=timeout_s).result()
        return [_acl_of(binding) for binding in found]

    found = retried("its ACLs", bootstrap_servers, ask)
    if not found:
        # confluent-kafka (2.12) shows a refusal as an empty list.
        _require_sight(admin, bootstrap_servers)
    return found


def _require_sight(admin: AdminClient, bootstrap_servers: str) -> None:
    """Check that the cluster has ACLs, and that this user may see them."""
    cluster = retried(
        "what this user may do",
        bootstrap_servers,
        lambda timeout_s: (
            at_controller(admin)
            .describe_cluster(include_authorized_operations=True, request_timeout=timeout_s)
            .result()
        ),
    )
    if AclOperation.DESCRIBE not in (cluster.authorized_operations or ()):
        raise UserError(f"Kafka at {bootstrap_servers}: {_REFUSED.format('see', 'DESCRIBE')}")
    broker = ConfigResource(ResourceType.BROKER, str(cluster.nodes[0].id))

    def ask(timeout_s: float) -> Any:
        return admin.describe_configs([broker], request_timeout=timeout_s)[broker].result()[_AUTHORIZER].value

    with suppress(KafkaRefusedError):  # whoever is refused is so by an authorizer
        if not retried("whether it has an authorizer", bootstrap_servers, ask):
            raise UserError(f"Kafka at {bootstrap_servers} {_NO_AUTHORIZER}")


def _reason(error: KafkaError) -> str:
    # Kafka's own text is the whole request.
    match error.code():
        case KafkaError.CLUSTER_AUTHORIZATION_FAILED:
            return _REFUSED.format("change", "ALTER")
        case KafkaError.SECURITY_DISABLED:
            return f"the cluster {_NO_AUTHORIZER}"
    return error.str()


def apply_acls(bootstrap_servers: str, add: Iterable[Acl], revoke: Iterable[Acl]) -> list[str]:
    """Add ACLs, then take others away. A refused change does not stop the others.

    Returns:
        A line for people for each refused change.
    """
    admin = admin_client(bootstrap_servers)

    def create(acls: list[Acl]) -> Mapping[Acl, "Future[Any]"]:
        asked = {_binding(acl): acl for acl in acls}
        answers = at_controller(admin).create_acls(list(asked), request_timeout=TIMEOUT_S)
        return {asked[binding]: answer for binding, answer in answers.items()}

    def delete(acls: list[Acl]) -> Mapping[Acl, "Future[Any]"]:
        asked = {_filter(acl): acl for acl in acls}
        answers = at_controller(admin).delete_acls(list(asked), request_timeout=TIMEOUT_S)
        return {asked[each]: answer for each, answer in answers.items()}

    refused = refusals_of("new ACLs", bootstrap_servers, add, create)
    kept = refusals_of("ACLs to take away", bootstrap_servers, revoke, delete)
    lines = [f"not added: {acl}: {_reason(error)}" for acl, error in refused.items()]
    return lines + [f"not taken away: {acl}: {_reason(error)}" for acl, error in kept.items()]


def await_acls(replan: Callable[[], AclPlan], add: Iterable[Acl], revoke: Iterable[Acl]) -> AclPlan:
    """Wait until a broker shows the changes, which takes a moment after they are confirmed.

    Returns:
        The new plan, after DEADLINE_S at the latest.
    """
    added, revoked = set(add), set(revoke)
    give_up = time.monotonic() + DEADLINE_S
    while True:
        left = replan()
        if not (added & set(left.missing) or revoked & set(left.excess)) or time.monotonic() > give_up:
            return left
        time.sleep(_LOOK_EVERY_S)


def _acl_of(binding: Any) -> Acl:
    return Acl(
        binding.principal,
        kind_name(binding.restype),
        binding.name,
        binding.operation.name,
        binding.resource_pattern_type.name,
        binding.permission_type.name,
        binding.host,
    )


def _binding(acl: Acl) -> AclBinding:
    return AclBinding(*_fields(acl))


def _filter(acl: Acl) -> AclBindingFilter:
    return AclBindingFilter(*_fields(acl))


def _fields(acl: Acl) -> tuple[Any, ...]:
    return (
        _KINDS[acl.kind],
        acl.name,
        ResourcePatternType[acl.pattern],
        acl.principal,
        acl.host,
        AclOperation[acl.operation],
        AclPermissionType[acl.permission],
    )
