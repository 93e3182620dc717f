"""Patterns of digits as automata: they say of every number what the regular expression says."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.transforms.arrow.automata import accepts, automaton_of

DIGITS = st.text("0123456789", max_size=8)
ATOMS = st.sampled_from(["0", "7", r"\d", "[13]", "[2-5]", "[0-24-79]", r"[\d]"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"(?:{'|'.join(each)})"),
        st.lists(inner, min_size=1, max_size=2).map(lambda each: f"({'|'.join(each)})"),
        st.tuples(inner, st.sampled_from(["?", "{2}", "{0,2}", "{1,3}", "{0}"])).map(
            lambda both: f"(?:{both[0]}){both[1]}"
        ),
    ),
    max_leaves=6,
)


def accepted(automaton, number: str) -> bool:
    data = np.frombuffer(b"x" + number.encode() + b"7", np.uint8)
    return accepts(automaton.steps, automaton.accepting, data, 1, 1 + len(number))


@given(st.lists(st.lists(PATTERNS, min_size=1, max_size=2), max_size=2), st.lists(DIGITS, min_size=1, max_size=20))
def test_a_number_is_accepted_if_all_patterns_of_one_alternative_match_it(alternatives, numbers):
    automaton = automaton_of(alternatives)
    for number in numbers:
        expected = any(all(re.fullmatch(each, number) for each in patterns) for patterns in alternatives)
        assert accepted(automaton, number) == expected


@pytest.mark.parametrize("text", ["+12", "1 2", "1/2", "1:2", "٣", "\x00"])
def test_what_is_no_digit_is_not_accepted(text):
    assert not accepted(automaton_of([[r"\d{0,8}"]]), text)


@pytest.mark.parametrize("pattern", [r"\w", "1+", "2*", "a", "[^1]", "1{2", "."])
def test_a_pattern_of_something_else_than_digits_is_refused(pattern):
    with pytest.raises(ValueError, match="only digits, sets"):
        automaton_of([[pattern]])
