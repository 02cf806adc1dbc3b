"""Random numbers from a counter, on any array library: the same bits as the Numba kernels draw.

Number i of stream `key` is the i-th output of SplitMix64 started at `key` (Steele, Lea and Flood, OOPSLA 2014), so
any cell's number is found without its neighbours', and a result depends on no order and no thread count.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hwsim.arrays import Array, Namespace

MASK = 2**64 - 1
GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
GAP = np.float32(2.0**-24)  # of the uniform numbers


def draw_key(rng: Any) -> int:
    """A 63-bit key, by one draw from a generator of NumPy, or from the one that a card's generator has on the host."""
    return int(getattr(rng, "on_host", rng).integers(0, 2**63 - 1, dtype=np.int64))


def subkeys(key: int, count: int) -> list[int]:
    """Keys of `count` streams apart from each other and from the stream `key`."""
    return [_mix_int(_mix_int((key ^ SECOND) & MASK) + (i + 1) * FIRST & MASK) for i in range(count)]


def _mix_int(state: int) -> int:
    state = (state ^ (state >> 30)) * FIRST & MASK
    state = (state ^ (state >> 27)) * SECOND & MASK
    return state ^ (state >> 31)


def mix(xp: Namespace, state: Array) -> Array:
    """64 bits from each 64-bit counter."""
    state = (state ^ (state >> xp.uint64(30))) * xp.uint64(FIRST)
    state = (state ^ (state >> xp.uint64(27))) * xp.uint64(SECOND)
    return state ^ (state >> xp.uint64(31))


def words(xp: Namespace, key: int, shape: tuple[int, ...], start: int = 0) -> Array:
    """The numbers of stream `key` from number `start` on, uint64 of `shape`."""
    index = xp.arange(math.prod(shape), dtype=xp.uint64).reshape(shape)
    return mix(xp, index * xp.uint64(GOLDEN) + xp.uint64((key + start * GOLDEN) & MASK))


def _fractions(xp: Namespace, bits: Array) -> tuple[Array, Array]:
    """Multiples of 2^-24 in [0, 1) from the upper and from the lower 24 bits, float32."""
    return (bits >> xp.uint64(40)).astype(xp.float32) * GAP, (bits & xp.uint64(0xFFFFFF)).astype(xp.float32) * GAP


def uniforms(xp: Namespace, key: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Two uniform numbers for each counter, multiples of 2^-24 in [0, 1), float32."""
    return _fractions(xp, words(xp, key, shape))


def normals(xp: Namespace, key: int, shape: tuple[int, ...], start: int = 0, second_uniform: bool = False) -> Any:
    """Standard normals, float32 of `shape`, |z| <= 5.9: R sin(a) with R^2 = -2 ln u and a uniform on (-pi/2, pi/2).

    With `second_uniform` also a uniform number in (0, 1) for each, of the 16 bits in the middle that no normal uses.
    """
    bits = words(xp, key, shape, start)
    high, low = _fractions(xp, bits)
    angle = (low * 2 + (GAP - 1)) * np.float32(math.pi / 2)
    found = xp.sqrt(-2 * xp.log(high + GAP / 2)) * xp.sin(angle)
    if not second_uniform:
        return found
    middle = (bits >> xp.uint64(24)) & xp.uint64(0xFFFF)
    return found, (middle.astype(xp.float32) + np.float32(0.5)) * np.float32(2.0**-16)
