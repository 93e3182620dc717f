"""Deterministic automata over digits, compiled from regular expressions, to match whole columns of numbers.

A numbering plan is a set of regular expressions over digits. An automaton takes one step a digit, however many
expressions there are. It is a table of small integers, so compiled functions can walk it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from orion_beam.transforms.arrow.compiled import BYTES, INT64, MASK, Bytes, Mask, compiled

STEPS = types.Array(types.int32, 2, "C", readonly=True)


class Automaton(NamedTuple):
    """A deterministic automaton over digits. State 1 is the start; state 0 is the dead state that no digit leaves.

    Attributes:
        steps: Next state for each state and digit: int32, shape (states, 10).
        accepting: Whether a number may end in each state.
    """

    steps: npt.NDArray[np.int32]
    accepting: Mask


@compiled(STEPS, MASK, BYTES, INT64, INT64)
def accepts(steps: npt.NDArray[np.int32], accepting: Mask, data: Bytes, start: int, end: int) -> bool:
    """Return whether data[start:end] are ASCII digits that an automaton accepts. For use in compiled functions."""
    state = 1
    for place in range(start, end):
        digit = data[place] - np.uint8(48)
        if digit > 9 or state == 0:
            return False
        state = steps[state, digit]
    return bool(accepting[state])


def automaton_of(alternatives: Iterable[Sequence[str]]) -> Automaton:
    r"""Build an automaton that accepts a number if the whole number matches all patterns of at least one alternative.

    Args:
        alternatives: Sequences of regular expressions of digits, `\d`, sets, groups, `|`, `?`, `{m}` and `{m,n}`.

    Raises:
        ValueError: A pattern contains any other syntax.
    """
    graph = _Graph()
    start = graph.node()
    wanted = [[graph.add(_parsed(pattern), start) for pattern in patterns] for patterns in alternatives]
    # A state is the set of graph nodes, over all patterns, that the digits read so far can lead to.
    numbers = {frozenset[int](): 0, graph.reached({start}): 1}
    steps: list[list[int]] = []
    states = list(numbers)
    for nodes in states:
        edges = [edge for node in nodes for edge in graph.edges[node]]
        steps.append([])
        for digit in range(10):
            following = graph.reached({target for digits, target in edges if digit in digits})
            if following not in numbers:
                numbers[following] = len(states)
                states.append(following)
            steps[-1].append(numbers[following])
    accepting = [any(nodes.issuperset(ends) for ends in wanted) for nodes in states]
    return Automaton(np.array(steps, np.int32), np.array(accepting, np.bool_))


class _Piece(NamedTuple):
    """A part of a pattern, with its least and greatest number of repetitions.

    It is either a set of digits, of which one matches, or a list of alternative sequences of pieces.
    """

    what: "frozenset[int] | list[list[_Piece]]"
    least: int = 1
    most: int = 1


_TOKEN = re.compile(r"\(\?:|[()|]|\[(?P<set>(?:\d|-|\\d)+)\]|(?P<digits>\d|\\d)|(?P<times>\?|\{(\d+)(?:,(\d+))?\})")


def _parsed(pattern: str) -> _Piece:
    tokens = list(_TOKEN.finditer(pattern))
    if "".join(token[0] for token in tokens) != pattern:
        raise ValueError(f"{pattern} may have only digits, sets, groups and repetitions")
    return _Piece(_alternatives(iter(tokens)))


def _alternatives(tokens: Iterator[re.Match[str]]) -> list[list[_Piece]]:
    """Parse the alternatives up to the closing parenthesis or the end of the pattern."""
    sequences: list[list[_Piece]] = [[]]
    for token in tokens:
        if token[0] == ")":
            break
        if token[0] == "|":
            sequences.append([])
        elif token[0] in ("(", "(?:"):
            sequences[-1].append(_Piece(_alternatives(tokens)))
        elif token["times"]:
            least, most = (0, 1) if token[0] == "?" else (int(token[4]), int(token[5] or token[4]))
            sequences[-1][-1] = sequences[-1][-1]._replace(least=least, most=most)
        else:
            sequences[-1].append(_Piece(_digits(token["set"] or token["digits"])))
    return sequences


def _digits(members: str) -> frozenset[int]:
    ranges = re.findall(r"(\d)-(\d)|(\d)", members.replace(r"\d", "0-9"))
    return frozenset(
        digit for first, last, only in ranges for digit in range(int(first or only), int(last or only) + 1)
    )


class _Graph:
    """Patterns as a graph whose edges consume a digit or nothing (Thompson's construction)."""

    def __init__(self) -> None:
        self.edges: list[list[tuple[frozenset[int], int]]] = []
        self._jumps: list[list[int]] = []

    def node(self) -> int:
        self.edges.append([])
        self._jumps.append([])
        return len(self.edges) - 1

    def add(self, piece: _Piece, start: int) -> int:
        """Add a piece that begins at the node `start`. Return the node at its end."""
        ends, end = [start] if piece.least == 0 else [], start
        for times in range(1, piece.most + 1):
            end = self._once(piece.what, end)
            if times >= piece.least:
                ends.append(end)
        return self._joined(ends)

    def reached(self, nodes: set[int]) -> frozenset[int]:
        """Return the nodes and all nodes that are reachable from them without a digit."""
        found = list(nodes)
        for node in found:
            found += [target for target in self._jumps[node] if target not in found]
        return frozenset(found)

    def _once(self, what: frozenset[int] | list[list[_Piece]], start: int) -> int:
        if isinstance(what, frozenset):
            end = self.node()
            self.edges[start].append((what, end))
            return end
        ends = []
        for sequence in what:
            end = start
            for piece in sequence:
                end = self.add(piece, end)
            ends.append(end)
        return self._joined(ends)

    def _joined(self, ends: list[int]) -> int:
        joined = self.node()
        for end in ends:
            self._jumps[end].append(joined)
        return joined
