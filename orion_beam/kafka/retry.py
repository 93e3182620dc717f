"""Asking a broker again: an election, a restart and a lost connection pass by themselves, so callers wait for them."""

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException

from orion_beam.errors import PrerequisiteError, UserError

DEADLINE_S = 60.0
"""How long a broker is asked again, as Kafka's own clients do by default (`default.api.timeout.ms`)."""

_FIRST_TRY_S = 1.0
_LONGEST_TRY_S = 4.0
"""Of one request. A call that blocks inside librdkafka hears of Ctrl-C only when it returns, so none is long."""
_SHORTEST_TRY_S = 0.1
_PAUSE_S = 0.1
_WARN_AFTER_S = 5.0

_RETRIABLE = {
    # Those of the broker that Kafka's protocol marks as retriable,
    KafkaError.CONCURRENT_TRANSACTIONS,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.ELIGIBLE_LEADERS_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.FETCH_SESSION_ID_NOT_FOUND,
    KafkaError.INCONSISTENT_TOPIC_ID,
    KafkaError.INVALID_FETCH_SESSION_EPOCH,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.LISTENER_NOT_FOUND,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.NOT_CONTROLLER,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.PREFERRED_LEADER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.THROTTLING_QUOTA_EXCEEDED,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    # and librdkafka's own for what it waits for itself, as long as it is let.
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._NOENT,
    KafkaError._RETRY,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._TRANSPORT,
    KafkaError._UNKNOWN_BROKER,
    KafkaError._WAIT_CACHE,
    KafkaError._WAIT_COORD,
}
_UNKNOWN_TOPIC = {
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
}
"""Kafka marks these as retriable, too: a broker may not have heard yet of a topic that another one knows."""

_logger = logging.getLogger(__name__)

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class KafkaRefusedError(UserError):
    """A broker says no, and would say it again.

    Attributes:
        error: what it says.
    """

    def __init__(self, message: str, error: KafkaError) -> None:
        """Take the line for the user, and what the broker says."""
        super().__init__(message)
        self.error = error


def is_retriable(error: KafkaError, *, topics_exist: bool = False) -> bool:
    """Return whether an error passes by itself.

    Args:
        error: of a broker, or of librdkafka.
        topics_exist: another broker, or the same one, has named the topics: that one is unknown passes, too.
    """
    # confluent-kafka says it only of what transactions answer.
    return error.retriable() or error.code() in _RETRIABLE or (topics_exist and error.code() in _UNKNOWN_TOPIC)


def retried(
    what: str,
    bootstrap_servers: str,
    ask: Callable[[float], T],
    *,
    topics_exist: bool = False,
    deadline_s: float = DEADLINE_S,
    fix: str = "look whether all its brokers are up, and try again",
) -> T:
    """Return what a broker answers, and ask it again as long as its errors are such that pass by themselves.

    Args:
        what: what is asked for, for people, such as `the offsets of cdr.raw.FR`.
        bootstrap_servers: the brokers.
        ask: asks once; takes the seconds that this may last. It must be harmless to do again.
        topics_exist: see `is_retriable`.
        deadline_s: how long to go on.
        fix: what the user can do when that is over.

    Raises:
        PrerequisiteError: the deadline has passed; names the brokers, what was asked for, how long, and the last error.
        KafkaRefusedError: the broker refuses for good.
    """
    began = time.monotonic()
    try_s, has_warned = _FIRST_TRY_S, False
    while True:
        left_s = began + deadline_s - time.monotonic()
        try:
            return ask(max(_SHORTEST_TRY_S, min(try_s, left_s)))
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
        if not is_retriable(error, topics_exist=topics_exist):
            raise KafkaRefusedError(f"Kafka at {bootstrap_servers} refuses {what}: {error.str()}", error)
        waited_s = time.monotonic() - began
        if waited_s >= deadline_s:
            raise PrerequisiteError(
                f"Kafka at {bootstrap_servers} does not answer"
                f" ({error.str()}; asked {waited_s:.0f} s for {what}): {fix}"
            )
        if waited_s >= _WARN_AFTER_S and not has_warned:
            has_warned = True
            _logger.warning(
                "waiting for Kafka at %s, asked for %s: %s", bootstrap_servers, what, error.str(),
                extra={"event": "waiting_for_broker"},
            )  # fmt: skip
        time.sleep(_PAUSE_S)
        try_s = min(2 * try_s, _LONGEST_TRY_S)


def refusals_of(
    what: str,
    bootstrap_servers: str,
    keys: Iterable[K],
    change: Callable[[list[K]], Mapping[K, "Future[Any]"]],
    *,
    topics_exist: bool = False,
) -> dict[K, KafkaError]:
    """Have brokers make several changes, each again as long as its errors pass by themselves.

    Args:
        what: what is changed, for people.
        bootstrap_servers: the brokers.
        keys: name the changes.
        change: begins those changes.
        topics_exist: see `is_retriable`.

    Returns:
        The error of each change that was refused, or not made when the deadline passed.
    """
    pending = list(keys)
    errors: dict[K, KafkaError] = {}

    def attempt(_: float) -> None:
        again = []
        for key, done in change(pending).items():
            errors.pop(key, None)
            try:
                done.result()
            except KafkaException as failure:
                errors[key] = failure.args[0]
                if is_retriable(errors[key], topics_exist=topics_exist):
                    again.append(key)
        pending[:] = again
        if again:
            raise KafkaException(errors[again[0]])

    if pending:
        with suppress(PrerequisiteError):
            retried(what, bootstrap_servers, attempt, topics_exist=topics_exist)
    return errors
