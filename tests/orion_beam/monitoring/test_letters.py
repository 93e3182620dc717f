"""Which dead letters the monitor counts by kind: each kind becomes a metric label."""

from contextlib import closing

from orion_beam.monitoring.letters import LetterCounter, LetterKind


def test_letters_of_ones_own_stages_are_kinds_and_few_of_them():
    with closing(LetterCounter("localhost:1", "cdr.dlq", frozenset({"FR"}), "orion-beam")) as counter:
        assert counter.is_counted(LetterKind("FR", "validate", "invalid_imsi"))
        assert counter.is_counted(LetterKind("FR", "tag", "tag.no_cell"))
        for kind in [("XX", "tag", "tag.no_cell"), ("FR", "tag", "other.no_cell"), ("FR", "tag", "no_cell")]:
            assert not counter.is_counted(LetterKind(*kind))
        counter.counts.update(LetterKind("FR", "tag", f"tag.code_{number}") for number in range(100))
        assert counter.is_counted(LetterKind("FR", "tag", "tag.code_7"))
        assert not counter.is_counted(LetterKind("FR", "tag", "tag.code_100"))
        assert counter.is_counted(LetterKind("FR", "validate", "invalid_imsi"))
