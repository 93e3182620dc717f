"""The conformance kit: what must hold for a country's records, whatever happens to them on the way.

Its own golden cases are mutated in ways that feeds are known to break. Then no row may be lost or come twice, none may
meet a bug of ours, none may change what becomes of the rows beside it, and no dead letter may say a value.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.schemas.codes import Code
from orion_beam.schemas.country import CountryProfile
from orion_beam.testing import Row, raw_batch, rows
from orion_beam.transforms.encode import unified

_ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
_SEPARATORS = (b";", b"|", b",")
_SUBSCRIBER_NUMBER = re.compile(r"[0-9]{9,}")
_MOST_FAILURES = 5
# These say when and where a row was read, and not what it means.
_COORDINATES = {"source_offset", "failed_at"}


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        check: the kind of mutation.
        records: how many records were tried.
        failures: what went wrong, with the case's line number from 1; never a value.
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
"""Name to what is done to a payload."""


def check_country(profile: CountryProfile, payloads: Sequence[bytes]) -> Iterator[Finding]:
    """Mutate a country's records in every way and check what becomes of them.

    Args:
        profile: the country.
        payloads: its golden cases.

    Yields:
        One finding for each of MUTATIONS.
    """
    chain = _Chain(profile)
    alone = [chain.outcome([payload])[0] for payload in payloads]
    for name, mutate in MUTATIONS.items():
        # Each mutated record stands between records as they are, which must not notice.
        mixed = [each for payload in payloads for each in (payload, mutate(payload))]
        failures = list(_failures(chain.outcome(mixed), alone))
        yield Finding(name, len(payloads), failures[:_MOST_FAILURES])


class _Outcome(NamedTuple):
    """What became of one record: the rows that came out for it."""

    final: list[Row]
    dead_letters: list[Row]


def _failures(outcomes: Sequence[_Outcome], alone: Sequence[_Outcome]) -> Iterator[str]:
    for place, outcome in enumerate(outcomes):
        line, is_mutated = place // 2 + 1, place % 2
        if len(outcome.final) + len(outcome.dead_letters) != 1:
            yield f"line {line}: came out {len(outcome.final)} times, and {len(outcome.dead_letters)} as a dead letter"
        for letter in outcome.dead_letters:
            if letter["code"] == Code.INTERNAL_ERROR:
                yield f"line {line}: internal_error in stage {letter['stage']}"
            if _SUBSCRIBER_NUMBER.search(letter["message"].replace("2^63", "")):
                yield f"line {line}: the message of the dead letter holds a number"
        if not is_mutated and _meaning(outcome) != _meaning(alone[place // 2]):
            yield f"line {line}: something else becomes of it beside a mutated record"


def _meaning(outcome: _Outcome) -> list[Row]:
    return [{k: v for k, v in row.items() if k not in _COORDINATES} for part in outcome for row in part]


class _Chain:
    """The stages, from raw messages to unified CDRs."""

    def __init__(self, profile: CountryProfile) -> None:
        self._profile, self._stages = profile, chain_of(profile, load_reference())

    def outcome(self, payloads: Sequence[bytes | None]) -> list[_Outcome]:
        """Return what becomes of each payload, all in one batch; keys are null."""
        batch = raw_batch(self._profile.code, payloads, timestamps=_ARRIVED)
        outcomes = [_Outcome([], []) for _ in payloads]
        found = run_chain(self._stages, batch)
        for letter in rows(found.rejected):
            outcomes[letter["source_offset"]].dead_letters.append(letter)
        for row in rows(unified(found.accepted, None)) if found.accepted.num_rows else ():
            outcomes[row["source_offset"]].final.append(row)
        return outcomes
