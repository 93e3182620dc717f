"""Makes a cluster agree with the topic catalogue, as far as a plan says and its owner allows."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported implicitly
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions

from orion_beam.errors import UserError
from orion_beam.kafka.catalogue import Topic
from orion_beam.kafka.topic_plan import PARTITIONS, Change, Kind, Plan
from orion_beam.kafka.topics import TIMEOUT_S, admin_client, create

_LOOK_EVERY_S = 0.1


def apply_changes(bootstrap_servers: str, creates: Sequence[Topic], changes: Iterable[Change]) -> list[str]:
    """Create topics and make changes, each as far as the brokers allow: one that is refused stops no other.

    Args:
        bootstrap_servers: the brokers.
        creates: topics to create.
        changes: those that the owner of the data allows; what has to be done by hand is left out.

    Returns:
        A line for each that was refused.
    """
    refused = []
    try:
        create(bootstrap_servers, creates)
    except UserError as error:
        refused.append(str(error))
    admin = admin_client(bootstrap_servers)
    partitions: dict[str, int] = {}
    settings: dict[str, dict[str, str]] = defaultdict(dict)
    for change in changes:
        if change.kind is Kind.BY_HAND:
            continue
        if change.setting == PARTITIONS:
            partitions[change.where] = int(change.after)
        else:
            settings[change.where][change.setting] = change.after
    refused += _grow(admin, partitions)
    refused += _set(admin, settings)
    return refused


def _grow(admin: AdminClient, partitions: Mapping[str, int]) -> list[str]:
    if not partitions:
        return []
    requests = [NewPartitions(topic, count) for topic, count in partitions.items()]
    answers = admin.create_partitions(requests, operation_timeout=TIMEOUT_S)
    return _refusals({f"topic {topic}: {partitions[topic]} partitions": done for topic, done in answers.items()})


def _set(admin: AdminClient, settings: Mapping[str, Mapping[str, str]]) -> list[str]:
    if not settings:
        return []
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            topic,
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in entries.items()
            ],
        )
        for topic, entries in settings.items()
    ]
    answers = admin.incremental_alter_configs(resources, request_timeout=TIMEOUT_S)
    return _refusals({f"topic {resource.name}: its settings": done for resource, done in answers.items()})


def _refusals(answers: Mapping[str, "Future[Any]"]) -> list[str]:
    refused = []
    for what, answer in answers.items():
        try:
            answer.result()
        except KafkaException as error:
            refused.append(f"{what} cannot be changed: {error.args[0].str()}")
    return refused


def await_effect(replan: Callable[[], Plan], creates: Sequence[Topic], changes: Iterable[Change]) -> Plan:
    """Wait until a new plan holds none of what was applied: brokers learn of a change a moment after its answer.

    Returns:
        What is left to do, TIMEOUT_S after the change at the latest.
    """
    applied = {(change.where, change.setting) for change in changes}
    created = {topic.name for topic in creates}
    give_up = time.monotonic() + TIMEOUT_S
    while True:
        left = replan()
        open_changes = {(change.where, change.setting) for change in left.changes} & applied
        open_creates = {topic.name for topic in left.creates} & created
        if not open_changes and not open_creates or time.monotonic() > give_up:
            return left
        time.sleep(_LOOK_EVERY_S)
