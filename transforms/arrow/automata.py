"""Patterns of digits as tables: what a regular expression says of a number is read off digit by digit, in columns.

Numbering plans are regular expressions over digits. A deterministic automaton reads a number in a step a digit however
many kinds of numbers there are, and is a table of small integers, which compiled functions can walk.
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
    """A deterministic automaton over digits. It begins in state 1; no way leads out of state 0.

    Attributes:
        steps: int32, states x 10: the state that each digit leads to.
        accepting: the states in which a number may end.
    """

    steps: npt.NDArray[np.int32]
    accepting: Mask


@compiled(STEPS, MASK, BYTES, INT64, INT64)
def accepts(steps: npt.NDArray[np.int32], accepting: Mask, data: Bytes, start: int, end: int) -> bool:
    """Say whether bytes are digits that an automaton accepts; for use in compiled functions."""
    state = 1
    for place in range(start, end):
        digit = data[place] - np.uint8(48)
        if digit > 9 or state == 0:
            return False
        state = steps[state, digit]
    return bool(accepting[state])


def automaton_of(alternatives: Iterable[Sequence[str]]) -> Automaton:
    r"""Return the automaton of the numbers that match, as a whole, all patterns of at least one alternative.

    Args:
        alternatives: regular expressions of digits, `\d`, sets, groups, `|`, `?`, `{m}` and `{m,n}`.

    Raises:
        ValueError: a pattern has something else.
    """
    graph = _Graph()
    start = graph.node()
    wanted = [[graph.add(_parsed(pattern), start) for pattern in patterns] for patterns in alternatives]
    # Each state stands for the nodes at which a number may be, in all patterns at once.
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
    """A part of a pattern: digits to choose from, or sequences of pieces; and how often it may come."""

    what: "frozenset[int] | list[list[_Piece]]"
    least: int = 1
    most: int = 1


_TOKEN = re.compile(r"\(\?:|[()|]|\[(?P<set>(?:\d|-|\\d)+)\]|(?P<digits>\d|\\d)|(?P<times>\?|\{(\d+)(?:,(\d+))?\})")


def _parsed(pattern: str) -> _Piece:
    tokens = list(_TOKEN.finditer(pattern))
    if "".join(token[0] for token in tokens) != pattern:
        raise ValueError(f"{pattern} has something else than digits, sets, groups and repetitions")
    return _Piece(_alternatives(iter(tokens)))


def _alternatives(tokens: Iterator[re.Match[str]]) -> list[list[_Piece]]:
    """Read what is between two parentheses, or all."""
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
    """Patterns as nodes that are joined by digits, or by nothing (Thompson's construction)."""

    def __init__(self) -> None:
        self.edges: list[list[tuple[frozenset[int], int]]] = []
        self._jumps: list[list[int]] = []

    def node(self) -> int:
        self.edges.append([])
        self._jumps.append([])
        return len(self.edges) - 1

    def add(self, piece: _Piece, start: int) -> int:
        """Add a piece behind a node; return the node behind it."""
        ends, end = [start] if piece.least == 0 else [], start
        for times in range(1, piece.most + 1):
            end = self._once(piece.what, end)
            if times >= piece.least:
                ends.append(end)
        return self._joined(ends)

    def reached(self, nodes: set[int]) -> frozenset[int]:
        """Return nodes with all that can be reached from them without a digit."""
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
