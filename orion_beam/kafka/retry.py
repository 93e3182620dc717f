"""Retries of calls to brokers: elections, restarts and lost connections are transient, so callers wait."""

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException

from orion_beam.errors import PrerequisiteError, UserError

DEADLINE_S = 60.0
"""Seconds for which a call is retried: the default of Kafka's own clients (`default.api.timeout.ms`)."""

_FIRST_TRY_S = 1.0
_LONGEST_TRY_S = 4.0
"""Longest single request in seconds. Ctrl-C takes effect only when a call inside librdkafka returns."""
_SHORTEST_TRY_S = 0.1
_PAUSE_S = 0.1
_WARN_AFTER_S = 5.0

_RETRIABLE = {
    # Errors of the broker that Kafka's protocol marks as retriable.
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
    # Errors of librdkafka for conditions that it waits for itself, up to the timeout of the call.
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
"""Kafka marks these as retriable, too: a broker may not know yet a topic that another broker knows."""

_logger = logging.getLogger(__name__)

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class KafkaRefusedError(UserError):
    """A broker refuses a request for good: trying again would not help.

    Attributes:
        error: The broker's error.
    """

    def __init__(self, message: str, error: KafkaError) -> None:
        """Take the line for the user, and the broker's error."""
        super().__init__(message)
        self.error = error


def is_retriable(error: KafkaError, *, topics_exist: bool = False) -> bool:
    """Return whether an error is transient.

    Args:
        error: Error of a broker or of librdkafka.
        topics_exist: Whether the topics are known to exist; then an unknown topic is transient, too.
    """
    # confluent-kafka sets `retriable` only on errors of transactions.
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
    """Call a function that asks a broker, and repeat the call while its errors are transient.

    Args:
        what: Name of the request for people, such as `the offsets of cdr.raw.FR`.
        bootstrap_servers: Brokers, `host:port,…`.
        ask: Function that asks once. It takes its timeout in seconds, and must be harmless to repeat.
        topics_exist: See `is_retriable`.
        deadline_s: Seconds after which to give up.
        fix: Advice for the user when the deadline has passed.

    Returns:
        The result of `ask`.

    Raises:
        PrerequisiteError: The deadline has passed; names the brokers, the request, the time and the last error.
        KafkaRefusedError: The broker refuses for good.
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
    """Make several changes, and repeat each one while its errors are transient.

    Args:
        what: Name of the changes for people.
        bootstrap_servers: Brokers, `host:port,…`.
        keys: Keys of the changes.
        change: Function that starts the changes with these keys, and returns a future for each.
        topics_exist: See `is_retriable`.

    Returns:
        The error of each change that was refused, or was not made before the deadline.
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
