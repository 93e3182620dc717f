"""Counter of dead letters as they arrive, by their headers."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

from orion_beam.kafka.login import login_settings
from orion_beam.kafka.offset_ranges import offset_ranges
from orion_beam.monitoring.reading import READING_TIMEOUT_S
from orion_beam.schemas.codes import CUSTOM_CODE, Code, Stage
from orion_beam.schemas.dead_letter import LETTER_HEADERS
from orion_beam.transforms.rules.rules import RULES

_POLL_MESSAGES = 10_000
_FETCH_WAIT_MS = 5_000
"""Time in which an idle topic costs its broker one request."""


class LetterKind(NamedTuple):
    """Key by which dead letters are counted. The three values become metric labels, so few unknown ones are used."""

    country: str
    stage: str
    code: str


FOREIGN = LetterKind("", "", "")
"""Kind of messages on the topic that are not our dead letters."""


def known_kinds(countries: Iterable[str]) -> Iterator[LetterKind]:
    """Yield each kind of dead letter that these countries can have."""
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
_CUSTOM_CODE = re.compile(CUSTOM_CODE)
_MOST_CUSTOM_KINDS = 100
"""Largest number of kinds of letters of the user's own stages. Each becomes a metric label, and anybody can write to
the topic."""


class LetterCounter:
    """Follows a topic of dead letters from its end, outside of any group and without commits.

    Attributes:
        counts: Dead letters that arrived since the first `poll`, by kind.
    """

    def __init__(self, bootstrap_servers: str, topic: str, countries: frozenset[str], group_id: str) -> None:
        """Prepare a consumer of the topic.

        Args:
            bootstrap_servers: The brokers.
            topic: Topic of dead letters.
            countries: Codes that a dead letter may name.
            group_id: Group whose coordinator librdkafka looks for.
        """
        self.counts: Counter[LetterKind] = Counter()
        self._topic = topic
        self._countries = countries
        self._bootstrap_servers = bootstrap_servers
        self._is_assigned = False
        self._consumer = Consumer(
            login_settings()
            | {
                "bootstrap.servers": bootstrap_servers,
                "group.id": group_id,
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
        """Count the messages that arrived since the last call.

        Raises:
            UserError: no broker answers, one reports an error, or the topic does not exist.
        """
        if not self._is_assigned:
            self._assign()
        while messages := self._consumer.consume(_POLL_MESSAGES, timeout=0.05):
            for message in messages:
                # librdkafka recovers by itself from the errors that it reports here: an outage, a leader that moves.
                if message.error() is None:
                    self.counts[self._kind_of(message)] += 1
            if len(messages) < _POLL_MESSAGES:
                return

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _assign(self) -> None:
        ends = offset_ranges(self._bootstrap_servers, [self._topic], deadline_s=READING_TIMEOUT_S)
        self._consumer.assign([TopicPartition(*part, held.high) for part, held in ends.items()])
        self._is_assigned = True

    def _kind_of(self, message: Message) -> LetterKind:
        headers = dict(message.headers() or ())
        kind = LetterKind(*(_text(headers.get(LETTER_HEADERS[field])) for field in LetterKind._fields))
        return kind if self.is_counted(kind) else FOREIGN

    def is_counted(self, kind: LetterKind) -> bool:
        """Return whether letters of this kind are counted as such: it is known, or of a stage of the user's own."""
        is_ours = (kind.stage in _STAGES and kind.code in _CODES) or self._is_custom(kind)
        return is_ours and kind.country in self._countries

    def _is_custom(self, kind: LetterKind) -> bool:
        """Return whether a kind is of a stage of the user's own, one of the first _MOST_CUSTOM_KINDS."""
        if not _CUSTOM_CODE.fullmatch(kind.code) or kind.code.partition(".")[0] != kind.stage:
            return False
        return kind in self.counts or sum("." in each.code for each in self.counts) < _MOST_CUSTOM_KINDS


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""
