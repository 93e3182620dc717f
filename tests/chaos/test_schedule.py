"""The schedule of harms and the kinds that it draws from."""

from itertools import islice

from tests.chaos.harms import KINDS, Harm
from tests.chaos.schedule import schedule


def drawn(seed: int, harms: int) -> list[str]:
    return [str(harm) for harm in islice(schedule(seed), harms)]


def test_the_same_seed_gives_the_same_harms_with_the_same_targets() -> None:
    assert drawn(7, 100) == drawn(7, 100)
    assert drawn(7, 100) != drawn(8, 100)


def test_each_turn_holds_each_kind_once_in_another_order() -> None:
    first, second = ([harm.kind for harm in turn] for turn in turns(7, 2))
    assert sorted(first) == sorted(second) == sorted(KINDS)
    assert first != second


def turns(seed: int, count: int) -> list[list[Harm]]:
    harms = list(islice(schedule(seed), count * len(KINDS)))
    return [harms[start : start + len(KINDS)] for start in range(0, len(harms), len(KINDS))]


def test_there_are_twenty_kinds_and_each_says_what_it_does() -> None:
    assert len(KINDS) >= 20
    assert all(kind.__doc__ for kind in KINDS.values())


def test_only_some_kinds_can_be_drawn() -> None:
    assert {harm.kind for harm in islice(schedule(7, ["kill-worker"]), 5)} == {"kill-worker"}
