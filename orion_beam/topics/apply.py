"""Application of a plan: creates and changes topics so that the cluster agrees with the catalogue."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic

from orion_beam.defaults import DEVELOPMENT
from orion_beam.errors import UserError
from orion_beam.kafka.admin import TIMEOUT_S, admin_client, at_controller, create, topic_names
from orion_beam.kafka.retry import DEADLINE_S, refusals_of
from orion_beam.topics.catalogue import Topic, load_catalogue
from orion_beam.topics.plan import PARTITIONS_SETTING, ChangeKind, Plan, TopicChange

_LOOK_EVERY_S = 0.1


def create_topics(bootstrap_servers: str, countries: Sequence[str], profile: str = DEVELOPMENT) -> list[str]:
    """Create the missing topics of the catalogue. Topics that exist are left as they are.

    Returns:
        The names of the created topics.

    Raises:
        PrerequisiteError: The broker cannot be reached.
        UserError: The broker refuses, for instance because the cluster has too few brokers for the profile.
    """
    wanted = load_catalogue().topics_of(countries, profile)
    existing = topic_names(bootstrap_servers)
    return create(bootstrap_servers, [new_topic(topic) for topic in wanted if topic.name not in existing])


def apply_changes(bootstrap_servers: str, creates: Sequence[Topic], changes: Iterable[TopicChange]) -> list[str]:
    """Create topics and make changes. A refused change does not stop the others.

    Args:
        bootstrap_servers: Brokers, `host:port,…`.
        creates: Topics to create.
        changes: Changes that the owner of the data allows; those to make by hand are skipped.

    Returns:
        A line for people for each refused change.
    """
    refused = []
    try:
        create(bootstrap_servers, map(new_topic, creates))
    except UserError as error:
        refused.append(str(error))
    admin = admin_client(bootstrap_servers)
    partitions: dict[str, int] = {}
    settings: dict[str, dict[str, str]] = defaultdict(dict)
    for change in changes:
        if change.kind is ChangeKind.BY_HAND:
            continue
        if change.setting == PARTITIONS_SETTING:
            partitions[change.where] = int(change.after)
        else:
            settings[change.where][change.setting] = change.after
    grown = refusals_of(
        "more partitions", bootstrap_servers, partitions, partial(_grow, admin, partitions), topics_exist=True
    )
    set_anew = refusals_of(
        "new settings", bootstrap_servers, settings, partial(_set, admin, settings), topics_exist=True
    )
    what = {f"topic {topic}: {partitions[topic]} partitions": error for topic, error in grown.items()}
    what |= {f"topic {topic}: its settings": error for topic, error in set_anew.items()}
    return refused + [f"{change} cannot be changed: {error.str()}" for change, error in what.items()]


def _grow(admin: AdminClient, partitions: Mapping[str, int], topics: list[str]) -> Mapping[str, "Future[Any]"]:
    requests = [NewPartitions(topic, partitions[topic]) for topic in topics]
    return at_controller(admin).create_partitions(requests, operation_timeout=TIMEOUT_S, request_timeout=TIMEOUT_S)


def _set(
    admin: AdminClient, settings: Mapping[str, Mapping[str, str]], topics: list[str]
) -> Mapping[str, "Future[Any]"]:
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            topic,
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in settings[topic].items()
            ],
        )
        for topic in topics
    ]
    answers = at_controller(admin).incremental_alter_configs(resources, request_timeout=TIMEOUT_S)
    return {resource.name: done for resource, done in answers.items()}


def await_effect(replan: Callable[[], Plan], creates: Sequence[Topic], changes: Iterable[TopicChange]) -> Plan:
    """Wait until a new plan has none of the applied changes: brokers see a change a moment after they confirm it.

    Returns:
        The new plan, after DEADLINE_S at the latest.
    """
    applied = {(change.where, change.setting) for change in changes}
    created = {topic.name for topic in creates}
    give_up = time.monotonic() + DEADLINE_S
    while True:
        left = replan()
        open_changes = {(change.where, change.setting) for change in left.changes} & applied
        open_creates = {topic.name for topic in left.creates} & created
        if not open_changes and not open_creates or time.monotonic() > give_up:
            return left
        time.sleep(_LOOK_EVERY_S)


def new_topic(topic: Topic) -> NewTopic:
    """Return the request that creates a topic of the catalogue."""
    return NewTopic(topic.name, topic.partitions, topic.replication, config=dict(topic.settings))
