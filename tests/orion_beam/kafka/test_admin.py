"""What is said when Kafka is not there, or a profile. tests/runners creates topics on a real Kafka."""

import socket

import pytest

from orion_beam.errors import PrerequisiteError, UserError
from orion_beam.kafka import admin
from orion_beam.kafka.admin import require_topics
from orion_beam.topics.apply import create_topics


def test_a_kafka_that_is_not_there_is_named_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "TIMEOUT_S", 1)
    with socket.socket() as reserved:  # bound, but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(PrerequisiteError, match=f"Kafka at {servers} does not answer"):
            require_topics(servers, ["cdr.raw.FR"])


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(UserError, match="no profile 'staging': it has development, production"):
        create_topics("127.0.0.1:1", ["FR"], "staging")
