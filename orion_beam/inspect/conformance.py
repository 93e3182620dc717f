"""Conformance kit: checks that hold for a country's records however a feed damages them.

The kit mutates the country's golden cases in ways in which feeds are known to break. Then it checks that no row is lost
or duplicated, that none causes an internal error, that none changes the outcome of its neighbours, and that no dead
letter's message contains a subscriber's number.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.schemas.codes import Stage, internal_error_of
from orion_beam.schemas.country import CountryProfile
from orion_beam.schemas.extra_fields import extended
from orion_beam.testing import Row, raw_batch, rows
from orion_beam.transforms.encode import unified

_ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
_SEPARATORS = (b";", b"|", b",")
_SUBSCRIBER_NUMBER = re.compile(r"[0-9]{9,}")
_MOST_FAILURES = 5
# These fields depend on when and where a row was read, not on its content.
_COORDINATES = {"source_offset", "failed_at"}


class Finding(NamedTuple):
    """Result of one check.

    Attributes:
        check: Name of the mutation.
        records: Number of records that were checked.
        failures: Descriptions of failures, with the case's line number from 1; they never contain a value.
    """

    check: str
    records: int
    failures: list[str]


def _tokens_of(payload: bytes) -> tuple[bytes, list[bytes]]:
    separator = next((each for each in _SEPARATORS if each in payload), b" ")
    return separator, payload.split(separator)


def _without_middle(payload: bytes) -> bytes:
    separator, tokens = _tokens_of(payload)
    return separator.join(tokens[: len(tokens) // 2] + tokens[len(tokens) // 2 + 1 :])


def _with_extra(payload: bytes) -> bytes:
    if payload.rstrip().endswith(b"}"):
        return payload.rstrip()[:-1] + b',"extra":{"a":[1]}}'
    return payload + _tokens_of(payload)[0] + b"EXTRA=1"


def _swapped(payload: bytes) -> bytes:
    separator, tokens = _tokens_of(payload)
    return separator.join(reversed(tokens))


MUTATIONS: dict[str, Callable[[bytes], bytes | None]] = {
    "unchanged": lambda payload: payload,
    "cut to a quarter": lambda payload: payload[: len(payload) // 4],
    "cut in half": lambda payload: payload[: len(payload) // 2],
    "last byte missing": lambda payload: payload[:-1],
    "Latin-1 inside": lambda payload: payload[: len(payload) // 2] + b"\xe9" + payload[len(payload) // 2 :],
    "UTF-16": lambda payload: payload.decode(errors="replace").encode("utf-16"),
    "NUL and newline inside": lambda payload: payload[: len(payload) // 2] + b"\0\n" + payload[len(payload) // 2 :],
    "field missing": _without_middle,
    "extra field": _with_extra,
    "fields in reverse": _swapped,
    "digits for letters": lambda payload: re.sub(rb"[A-Za-z]", b"7", payload),
    "letters for digits": lambda payload: re.sub(rb"[0-9]", b"x", payload),
    "empty": lambda _: b"",
    "null": lambda _: None,
}
"""Mutations of a payload, by name."""


def check_country(
    profile: CountryProfile, payloads: Sequence[bytes], stages: Sequence[JobStage] = ()
) -> Iterator[Finding]:
    """Apply each mutation to a country's records, and check the outcomes.

    Args:
        profile: Profile of the country.
        payloads: Golden cases of the country.
        stages: The user's own stages.

    Yields:
        One finding for each of MUTATIONS.
    """
    chain = _Chain(profile, stages)
    alone = [chain.outcome([payload])[0] for payload in payloads]
    for name, mutate in MUTATIONS.items():
        # Each mutated record follows its unchanged record, whose outcome must stay the same.
        mixed = [each for payload in payloads for each in (payload, mutate(payload))]
        failures = list(_failures(chain.outcome(mixed), alone))
        yield Finding(name, len(payloads), failures[:_MOST_FAILURES])


class _Outcome(NamedTuple):
    """Output rows of one record."""

    final: list[Row]
    dead_letters: list[Row]


def _failures(outcomes: Sequence[_Outcome], alone: Sequence[_Outcome]) -> Iterator[str]:
    for place, outcome in enumerate(outcomes):
        line, is_mutated = place // 2 + 1, place % 2
        if len(outcome.final) + len(outcome.dead_letters) != 1:
            yield f"line {line}: came out {len(outcome.final)} times, and {len(outcome.dead_letters)} as a dead letter"
        for letter in outcome.dead_letters:
            if letter["code"] == internal_error_of(letter["stage"]).value:
                yield f"line {line}: {letter['code']} in stage {letter['stage']}"
            if _SUBSCRIBER_NUMBER.search(letter["message"].replace("2^63", "")):
                yield f"line {line}: the message of the dead letter holds a number"
        if not is_mutated and _meaning(outcome) != _meaning(alone[place // 2]):
            yield f"line {line}: something else becomes of it beside a mutated record"


def _meaning(outcome: _Outcome) -> list[Row]:
    return [{k: v for k, v in row.items() if k not in _COORDINATES} for part in outcome for row in part]


class _Chain:
    """Stages of a country, from raw messages to unified CDRs."""

    def __init__(self, profile: CountryProfile, stages: Sequence[JobStage]) -> None:
        self._profile, self._stages = profile, chain_of(profile, load_reference(), stages)
        in_order = (stage.block for place in Stage for stage in stages if stage.after is place)
        self._model = extended(UnifiedCdr, tuple(block for block in in_order if block is not None))

    def outcome(self, payloads: Sequence[bytes | None]) -> list[_Outcome]:
        """Run all payloads in one batch, and return the outcome of each; keys are null."""
        batch = raw_batch(self._profile.code, payloads, timestamps=_ARRIVED)
        outcomes = [_Outcome([], []) for _ in payloads]
        found = run_chain(self._stages, batch)
        for letter in rows(found.rejected):
            outcomes[letter["source_offset"]].dead_letters.append(letter)
        for row in rows(unified(found.accepted, None, self._model)) if found.accepted.num_rows else ():
            outcomes[row["source_offset"]].final.append(row)
        return outcomes
