"""The topic catalogue, and what is said when Kafka is not there. tests/runners creates topics on a real Kafka."""

import socket
import time

import pytest

from orion_beam.errors import PrerequisiteError
from orion_beam.kafka import topics
from orion_beam.kafka.topics import Profile, catalogue, create_topics, raw_topic, require_topics


def test_there_is_a_raw_topic_for_each_country() -> None:
    assert [topic.name for topic in catalogue(["FR", "SN"])] == [
        "cdr.raw.FR",
        "cdr.raw.SN",
        "cdr.validated",
        "cdr.normalized",
        "cdr.enriched",
        "cdr.final",
        "cdr.dlq",
    ]


def test_topics_are_kept_as_the_design_says() -> None:
    days = {topic.name: topic.retention_days for topic in catalogue(["FR"])}
    assert days == {
        "cdr.raw.FR": 7,
        "cdr.validated": 3,
        "cdr.normalized": 3,
        "cdr.enriched": 1,
        "cdr.final": 1,
        "cdr.dlq": 30,
    }
    assert {topic.partitions for topic in catalogue(["FR"])} == {12}


def test_production_survives_the_loss_of_a_broker() -> None:
    topic = raw_topic("FR")
    assert topic.replication(Profile.PRODUCTION) == 3
    assert topic.settings(Profile.PRODUCTION) == {
        "retention.ms": "604800000",
        "compression.type": "snappy",
        "min.insync.replicas": "2",
        "unclean.leader.election.enable": "false",
    }


def test_development_gets_by_with_one_broker() -> None:
    assert raw_topic("FR").replication(Profile.DEVELOPMENT) == 1
    assert raw_topic("FR").settings(Profile.DEVELOPMENT)["min.insync.replicas"] == "1"


def test_a_kafka_that_is_not_there_is_named_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "TIMEOUT_S", 1)
    with socket.socket() as reserved:  # bound, but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{reserved.getsockname()[1]}"
        before = time.monotonic()
        with pytest.raises(PrerequisiteError, match=f"Kafka at {servers} does not answer"):
            require_topics(servers, ["cdr.raw.FR"])
        assert time.monotonic() - before < 5


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="staging"):
        create_topics("127.0.0.1:1", ["FR"], "staging")
