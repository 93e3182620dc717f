"""Python's collector of cycles, in processes that run a chain for hours."""

import gc

_NEW_OBJECTS = 20_000
"""From one look at the youngest to the next; Python's own number is 700, of which one batch's dead letters are some."""


def look_at_less() -> None:
    """Have the collector look at what comes from now on only, and less often: what is loaded by now stays anyway.

    It went through all of Beam, Arrow and this product's modules again and again: a tenth of a worker's CPU.
    """
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *older)
