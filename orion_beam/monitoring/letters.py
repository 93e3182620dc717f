"""Counts dead letters as they arrive, by what their headers say."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

from orion_beam.kafka.login import login_settings
from orion_beam.kafka.offset_ranges import offset_ranges
from orion_beam.monitoring.reading import READING_TIMEOUT_S
from orion_beam.schemas.codes import Code, Stage
from orion_beam.transforms.rules.rules import RULES

_POLL_MESSAGES = 10_000
_FETCH_WAIT_MS = 5_000
"""An idle topic costs its broker one request in this time."""


class LetterKind(NamedTuple):
    """What dead letters are counted by. All three become labels, so only values that we know are let through."""

    country: str
    stage: str
    code: str


FOREIGN = LetterKind("", "", "")
"""Of messages on the topic that are no dead letters of ours."""


def known_kinds(countries: Iterable[str]) -> Iterator[LetterKind]:
    """Yield every kind of dead letter that these countries can have."""
    by_rules = {rule.violation.code for rule in RULES}
    for country in countries:
        for code in Code:
            if code is Code.INTERNAL_ERROR:
                yield from (LetterKind(country, stage.value, code.value) for stage in Stage)
            else:
                stage = Stage.VALIDATE if code in by_rules else Stage.DECODE
                yield LetterKind(country, stage.value, code.value)


_STAGES = {stage.value for stage in Stage}
_CODES = {code.value for code in Code}


class LetterCounter:
    """Follows a topic of dead letters from its end, with no group and no commits.

    Attributes:
        counts: dead letters that have arrived since the first `poll`, by kind.
    """

    def __init__(self, bootstrap_servers: str, topic: str, countries: frozenset[str]) -> None:
        """Take the topic, and the countries that may be named."""
        self.counts: Counter[LetterKind] = Counter()
        self._topic = topic
        self._countries = countries
        self._bootstrap_servers = bootstrap_servers
        self._is_assigned = False
        self._consumer = Consumer(
            login_settings()
            | {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "orion-beam-monitor",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": _FETCH_WAIT_MS,
                "fetch.queue.backoff.ms": 100,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
                "error_cb": lambda _: None,
            }
        )

    def poll(self) -> None:
        """Count what has arrived since the last call.

        Raises:
            UserError: no broker answers, one reports an error, or there is no such topic.
        """
        if not self._is_assigned:
            self._assign()
        while messages := self._consumer.consume(_POLL_MESSAGES, timeout=0.05):
            for message in messages:
                # librdkafka mends by itself what it reports here: an outage, a leader that moves.
                if message.error() is None:
                    self.counts[self._kind_of(message)] += 1
            if len(messages) < _POLL_MESSAGES:
                return

    def close(self) -> None:
        """Stop following."""
        self._consumer.close()

    def _assign(self) -> None:
        ends = offset_ranges(self._bootstrap_servers, [self._topic], deadline_s=READING_TIMEOUT_S)
        self._consumer.assign([TopicPartition(*part, held.high) for part, held in ends.items()])
        self._is_assigned = True

    def _kind_of(self, message: Message) -> LetterKind:
        headers = dict(message.headers() or ())
        kind = LetterKind(*(_text(headers.get(f"orion.{name}")) for name in ("country", "error.stage", "error.code")))
        is_ours = kind.country in self._countries and kind.stage in _STAGES and kind.code in _CODES
        return kind if is_ours else FOREIGN


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""
