"""What passes is asked again, up to a deadline; what does not pass is an error at once.

tests/integration/test_brokers.py has a real cluster elect leaders meanwhile.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException

from orion_beam.errors import PrerequisiteError
from orion_beam.kafka import retry
from orion_beam.kafka.column_consumer import Event
from orion_beam.kafka.offset_ranges import OffsetRange, _TopicRead
from orion_beam.kafka.retry import KafkaRefusedError, is_retriable, refusals_of, retried

SERVERS = "broker-1:9092,broker-2:9092"


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    return clock


def failing(*codes: int) -> Callable[[float], str]:
    """Return a question that is answered after these errors."""
    left = list(codes)

    def ask(_: float) -> str:
        if left:
            raise KafkaException(KafkaError(left.pop(0)))
        return "answer"

    return ask


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_CONTROLLER,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
    ],
)
@pytest.mark.usefixtures("clock")
def test_what_passes_by_itself_is_asked_again(code: int) -> None:
    assert retried("the topics", SERVERS, failing(code, code, code)) == "answer"


@pytest.mark.usefixtures("clock")
def test_an_unknown_topic_passes_only_where_the_topic_is_known_to_be_there() -> None:
    unknown = KafkaError.UNKNOWN_TOPIC_OR_PART
    assert retried("offsets", SERVERS, failing(unknown), topics_exist=True) == "answer"
    with pytest.raises(KafkaRefusedError, match="refuses offsets: Broker: Unknown topic or partition"):
        retried("offsets", SERVERS, failing(unknown))
    assert not is_retriable(KafkaError(unknown))


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.POLICY_VIOLATION,
        KafkaError.UNSUPPORTED_VERSION,
    ],
)
def test_a_definite_error_is_one_line_at_once(clock: Clock, code: int) -> None:
    with pytest.raises(KafkaRefusedError) as refused:
        retried("the settings of cdr.final", SERVERS, failing(code))
    assert str(refused.value) == f"Kafka at {SERVERS} refuses the settings of cdr.final: {KafkaError(code).str()}"
    assert refused.value.error.code() == code
    assert clock.now == 0


def test_a_deadline_that_passes_names_broker_question_and_time(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    lasted = []

    def ask(timeout_s: float) -> None:
        lasted.append(timeout_s)
        clock.sleep(timeout_s)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    with caplog.at_level(logging.WARNING), pytest.raises(PrerequisiteError) as failed:
        retried("offsets of cdr.raw.FR", SERVERS, ask, deadline_s=20)
    assert str(failed.value).startswith(
        f"Kafka at {SERVERS} does not answer (Local: Timed out; asked 20 s for offsets of cdr.raw.FR): "
    )
    assert "\n" not in str(failed.value)
    # Ctrl-C waits for one attempt at most.
    assert max(lasted) <= 4
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for Kafka at {SERVERS}, asked for offsets of cdr.raw.FR: Local: Timed out"
    ]


def test_ctrl_c_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(retry.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        retried("the topics", SERVERS, failing(KafkaError._TRANSPORT))


@pytest.mark.usefixtures("clock")
def test_of_several_changes_only_those_that_may_pass_are_made_again() -> None:
    outcomes = {
        "done": [None],
        "later": [KafkaError.NOT_CONTROLLER, KafkaError.REQUEST_TIMED_OUT, None],
        "refused": [KafkaError.INVALID_CONFIG],
    }
    asked: list[list[str]] = []

    def change(names: list[str]) -> dict[str, "Future[None]"]:
        asked.append(list(names))
        return {name: answered(outcomes[name].pop(0)) for name in names}

    refused = refusals_of("new settings", SERVERS, outcomes, change)
    assert {name: error.code() for name, error in refused.items()} == {"refused": KafkaError.INVALID_CONFIG}
    assert asked == [["done", "later", "refused"], ["later"], ["later"]]


def test_a_change_that_is_never_made_keeps_its_last_error(clock: Clock) -> None:
    def change(names: list[str]) -> dict[str, "Future[None]"]:
        return {name: answered(KafkaError.NOT_CONTROLLER) for name in names}

    refused = refusals_of("new settings", SERVERS, ["it"], change)
    assert refused["it"].code() == KafkaError.NOT_CONTROLLER
    assert clock.now >= retry.DEADLINE_S


def test_a_read_goes_on_behind_an_error_that_passes_and_ends_at_one_that_does_not() -> None:
    read = _TopicRead("cdr.raw.FR")
    read.add(3, OffsetRange(10, 20))
    for passing in (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
        read.note(Event(KafkaError(passing), "cdr.raw.FR", 3, -1))
    assert read.left == 10
    denied = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaRefusedError, match=r"to read cdr\.raw\.FR\[3\]: Broker: Topic authorization failed"):
        read.note(Event(denied, "cdr.raw.FR", 3, -1))


def answered(code: int | None) -> "Future[None]":
    future: Future[None] = Future()
    if code is None:
        future.set_result(None)
    else:
        future.set_exception(KafkaException(KafkaError(code)))
    return future
