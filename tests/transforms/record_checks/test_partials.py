"""Which of its session's records a CDR is, from cause and number alone."""

import json

import pyarrow as pa
import pytest

from orion_beam.countries import default_profiles
from orion_beam.testing import rows, run_stage
from orion_beam.transforms.record_checks import duplicates, partials
from orion_beam.transforms.record_checks.duplicates import FlagDuplicates
from orion_beam.transforms.record_checks.partials import (
    CAUSES_OF_END,
    CAUSES_OF_PARTIAL,
    TagPartials,
    partials_of,
    tag_partials,
)
from tests.transforms.chain import normalized

NORMAL_RELEASE, VOLUME_LIMIT = 0, 16


def partial_of(cause: int | None, number: int | None) -> str | None:
    (kind,) = partials_of(pa.array([cause, 0], pa.int64()), pa.array([number, 1], pa.int64())).to_pylist()[:1]
    return kind


@pytest.mark.parametrize(
    ("cause", "number", "expected"),
    [
        (VOLUME_LIMIT, 1, "first"),
        (VOLUME_LIMIT, 2, "intermediate"),
        (VOLUME_LIMIT, 2**62, "intermediate"),
        (NORMAL_RELEASE, 3, "last"),
        (NORMAL_RELEASE, 1, "complete"),
        (NORMAL_RELEASE, None, "complete"),
        # Which of the partial records it is, nobody can say.
        (VOLUME_LIMIT, None, None),
        # Whether more follow, nobody can say.
        (None, 1, None),
        (None, None, None),
        (99, 2, None),
        # Records are numbered from 1.
        (VOLUME_LIMIT, 0, None),
        (NORMAL_RELEASE, 0, None),
    ],
)
def test_cause_and_number_say_which_record_it_is(cause, number, expected):
    assert partial_of(cause, number) == expected


@pytest.mark.parametrize("cause", CAUSES_OF_END.to_pylist())
def test_a_cause_that_ends_the_session_makes_the_last_record(cause):
    assert partial_of(cause, 2) == "last"


@pytest.mark.parametrize("cause", CAUSES_OF_PARTIAL.to_pylist())
def test_a_cause_after_which_more_records_come_does_not(cause):
    assert partial_of(cause, 2) == "intermediate"


def payload(**members: int) -> bytes:
    record = {"event_type": "data", "imsi": "208011234567890", "msisdn": "+33612345678", "timestamp": 1780308000}
    return json.dumps(record | members).encode()


def test_every_row_of_a_batch_is_tagged_and_nothing_else_changes():
    batch = normalized("FR", [payload(cause_for_record_closing=0), payload(), payload(record_sequence_number=7)])
    expected = [row | {"partial": kind} for row, kind in zip(rows(batch), ["complete", None, None], strict=True)]
    assert rows(tag_partials(batch).accepted) == expected


def test_the_transform_tags_what_it_passes_on():
    batch = normalized("FR", [payload(cause_for_record_closing=16, record_sequence_number=1)])
    outcome = run_stage(TagPartials(), [batch, batch.slice(0, 0)])
    assert ([row["partial"] for row in outcome.accepted], outcome.dead_letters) == (["first"], [])


@pytest.mark.parametrize("check", [TagPartials(), FlagDuplicates(default_profiles(), window=10)])
def test_a_bug_gives_a_dead_letter_of_the_stage_that_reads_normalized_records(check, monkeypatch):
    def raise_a_bug(*_):
        raise KeyError

    monkeypatch.setattr(partials, "partials_of", raise_a_bug)
    monkeypatch.setattr(duplicates, "memory_of", raise_a_bug)
    outcome = run_stage(check, [normalized("FR", [payload()])])
    letters = [(letter["stage"], letter["code"]) for letter in outcome.dead_letters]
    assert (outcome.accepted, letters) == ([], [("enrich", "internal_error")])
