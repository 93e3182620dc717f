"""Settings of Kafka's clients that commands are given: what is refused, and with which words."""

import pytest

from orion_beam.errors import UserError
from orion_beam.kafka.clients import CONSUMER_DEFAULTS, consumer_config, producer_config

SECRETS = [
    "sasl.password", "ssl.key.password", "ssl.keystore.password", "sasl.jaas.config", "ssl.key.pem",
    "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config", "ssl.keystore.key",
    "sasl.oauthbearer.assertion.private.key.passphrase",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_a_password_is_refused_on_the_command_line_and_not_repeated(name: str) -> None:
    for make, where in (
        (lambda given: consumer_config("b:1", "group", given), f"consumer.{name}"),
        (lambda given: producer_config("b:1", given), name),
    ):
        with pytest.raises(UserError, match=rf"write {where}=… into the file that --kafka-config") as refused:
            make({name: "hunter2"})
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("max.pol.records", "5", "setting max.pol.records: .* did you mean max.poll.records?"),
        ("fetch.wait.max.ms", "5", "did you mean fetch.max.wait.ms?"),
        ("Session.Timeout.ms", "5", "did you mean session.timeout.ms?"),
        ("zzz", "5", "see Kafka's documentation"),
        ("max.poll.records", "many", "setting max.poll.records: expected a whole number"),
        ("max.poll.records", "5.0", "setting max.poll.records: expected a whole number"),
        ("check.crcs", "yes", "setting check.crcs: expected true or false"),
        ("sasl.login.refresh.window.factor", "x", "expected a number"),
    ],
)
def test_a_setting_that_the_java_consumer_does_not_have_is_refused_with_the_nearest(name, value, problem) -> None:
    with pytest.raises(UserError, match=problem):
        consumer_config("b:1", "group", {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("max.poll.records", " 5"), ("check.crcs", "False"), ("sasl.login.refresh.window.factor", "0.5"),
     ("client.rack", "a"), ("config.providers.mine.param.x", "y"), ("interceptor.classes", "a.B")],
)  # fmt: skip
def test_a_setting_that_it_has_is_taken(name: str, value: str) -> None:
    assert consumer_config("b:1", "group", {name: value})[name] == value


def test_the_defaults_are_settings_that_it_has() -> None:
    assert consumer_config("b:1", "group", CONSUMER_DEFAULTS)["max.poll.records"] == "2048"
