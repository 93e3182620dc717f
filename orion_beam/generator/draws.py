"""Random numbers of rows: a draw depends only on the seed, a label and the row's number.

So the generator's output does not depend on the batch size, and a batch can start at any row.
"""

from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from orion_beam.transforms.arrow.compiled import Mask

Bits: TypeAlias = NDArray[np.uint64]
Index: TypeAlias = NDArray[np.int64]

# The constants of splitmix64 (Steele, Lea, Flood 2014).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@cache
def _key(*labels: str | int) -> np.uint64:
    digest = blake2b("\0".join(map(str, labels)).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def draw(counters: Bits, *labels: str | int) -> Bits:
    """Return 64 random bits for each counter; different labels give unrelated bits."""
    mixed = counters * _GOLDEN
    mixed += _key(*labels)
    mixed ^= mixed >> np.uint64(30)
    mixed *= _MIX_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MIX_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


def part(bits: Bits, index: int) -> Bits:
    """Return one of the four independent 16-bit numbers in each draw, `index` 0 to 3."""
    return (bits >> np.uint64(16 * index)) & np.uint64(0xFFFF)


def below(bits: Bits, limit: int | Index) -> Index:
    """Return whole numbers from 0 up to, not including, `limit` (at most 2^31), from the upper half of each draw."""
    return (((bits >> np.uint64(33)) * np.asarray(limit, dtype=np.uint64)) >> np.uint64(31)).astype(np.int64)


def chance(bits: Bits, share: float) -> Mask:
    """Return a mask in which each row is true with probability `share`, 0 to 1."""
    if share >= 1:
        return np.ones(len(bits), dtype=np.bool_)
    return bits < np.uint64(int(share * 2**64))


def bell(bits: Bits) -> NDArray[np.float64]:
    """Return numbers from 0 to 4 that cluster around 2: each is the sum of four uniform ones."""
    total = part(bits, 0) + part(bits, 1) + part(bits, 2) + part(bits, 3)
    return total.astype(np.float64) / 65_536


def spread(weights: Sequence[float], size: int) -> Index:
    """Return a sorted table of `size` positions in `weights`, each about as often as its weight says.

    A uniform draw from this table is a weighted choice without a search.
    """
    bounds = np.cumsum(np.asarray(weights, dtype=np.float64))
    places = (np.arange(size) + 0.5) / size * bounds[-1]
    table: Index = np.searchsorted(bounds, places).astype(np.int64)
    return table
