"""The schedule: which harm comes when, drawn from a seed."""

import random
from collections.abc import Iterator, Sequence
from itertools import count

from tests.chaos.harms import KINDS, Harm


def schedule(seed: int, only: Sequence[str] = ()) -> Iterator[Harm]:
    """Yield harms for ever: every kind once, in drawn order, then every kind again in another order.

    The same seed gives the same harms with the same targets, whatever happens meanwhile.

    Args:
        seed: Any integer.
        only: Kinds to draw from; by default all.
    """
    for turn in count():
        draw = random.Random(f"{seed} {turn}")
        kinds = [kind for kind in KINDS if not only or kind in only]
        draw.shuffle(kinds)
        for kind in kinds:
            yield KINDS[kind](random.Random(f"{seed} {turn} {kind}"))
