"""Integers times a ratio below one, so that it can be undone: the digits that the division drops go into a buffer.

For a ratio n / d: v = d q + r becomes n q + t, where the digit r, one of d, is pushed into the buffer, and the digit t,
one of n, is pulled out of it. The buffer grows by log2(d / n) bits each time, and the way back exchanges d and n.
Every value has a buffer of its own: a 64-bit head, whose low 32 bits are spilled to a stack whenever the largest value
that it could have would no longer fit. When that is depends on the ratio and the number of multiplications alone.

Source: D. Maclaurin, D. Duvenaud and R. P. Adams, Gradient-based hyperparameter optimization through reversible
learning, 2015, section 2.3.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import NamedTuple

from hwsim.arrays import Array, Namespace
from hwsim.errors import ConfigError

HEAD_LIMIT = 1 << 63  # of an int64
SPILLED_BITS = 32  # of one word of the stack
LARGEST_DENOMINATOR = 1 << 12  # so that a head that has just spilled still holds several digits


class Buffer(NamedTuple):
    """What multiplications dropped: for every value a head, and words that were spilled, the newest last."""

    head: Array  # int64 [...]
    spilled: Array  # uint32 [words, ...]
    times: int  # multiplied


def empty_buffer(xp: Namespace, shape: tuple[int, ...]) -> Buffer:
    """A buffer for values of `shape` that have not been multiplied yet."""
    return Buffer(xp.zeros(shape, dtype=xp.int64), xp.zeros((0, *shape), dtype=xp.uint32), 0)


def checked_ratio(ratio: Fraction) -> Fraction:
    """`ratio`, if a buffer can take its digits. Raises ConfigError otherwise."""
    if not (0 < ratio < 1 and ratio.denominator <= LARGEST_DENOMINATOR):
        raise ConfigError(f"ratio {ratio}: needs a value above 0 and below 1, denominator up to {LARGEST_DENOMINATOR}")
    return ratio


def multiplied(xp: Namespace, v: Array, buffer: Buffer, ratio: Fraction) -> tuple[Array, Buffer]:
    """v [...] int64 times the ratio, within a few units, and the buffer that `divided` needs."""
    n, d = ratio.numerator, ratio.denominator
    head, spilled, times = buffer
    if head_bounds(ratio).spills(times):
        word = (head & ((1 << SPILLED_BITS) - 1)).astype(xp.uint32)
        spilled = xp.concatenate([spilled, word[None]])
        head = head >> SPILLED_BITS
    head = head * d + v % d
    return (v // d) * n + head % n, Buffer(head // n, spilled, times + 1)


def divided(xp: Namespace, v: Array, buffer: Buffer, ratio: Fraction) -> tuple[Array, Buffer]:
    """What `multiplied` was given, from what it returned. Raises ConfigError for a buffer that is at its start."""
    n, d = ratio.numerator, ratio.denominator
    head, spilled, times = buffer
    if times == 0:
        raise ConfigError("the information buffer is at its start: nothing is left to undo")
    head = head * n + v % n
    v = (v // n) * d + head % d
    head = head // d
    if head_bounds(ratio).spills(times - 1):
        head = (head << SPILLED_BITS) | spilled[-1].astype(xp.int64)
        spilled = spilled[:-1]
    return v, Buffer(head, spilled, times - 1)


def register_bits(ratio: Fraction, count: int) -> int:
    """Bits that the buffer of one value needs after `count` multiplications, whatever was dropped."""
    return head_bounds(ratio).register_bits(count)


def occupied_bits(xp: Namespace, buffer: Buffer) -> float:
    """Bits up to the highest one that is set, summed over all values: at most `register_bits` for each."""
    lengths = xp.ceil(xp.log2(buffer.head.astype(xp.float64) + 1))
    return float(lengths.sum() + SPILLED_BITS * buffer.spilled.size)


class HeadBounds:
    """The largest value that a head can have after each multiplication by a ratio, and where it spills first."""

    def __init__(self, ratio: Fraction) -> None:
        self.ratio = checked_ratio(ratio)
        self._bounds = [0]
        self._words = [0]  # spilled by then

    def spills(self, count: int) -> bool:
        """Whether the head spills before the multiplication after the first `count`."""
        self._extend(count + 1)
        return self._words[count + 1] > self._words[count]

    def register_bits(self, count: int) -> int:
        """Bits of the largest head after `count` multiplications, and of what was spilled."""
        self._extend(count)
        return self._bounds[count].bit_length() + SPILLED_BITS * self._words[count]

    def _extend(self, count: int) -> None:
        n, d = self.ratio.numerator, self.ratio.denominator
        while len(self._bounds) <= count:
            bound, words = self._bounds[-1], self._words[-1]
            if bound * d + d - 1 >= HEAD_LIMIT:
                bound, words = bound >> SPILLED_BITS, words + 1
            self._bounds.append((bound * d + d - 1) // n)
            self._words.append(words)


@cache
def head_bounds(ratio: Fraction) -> HeadBounds:
    """The bounds of a ratio, made once."""
    return HeadBounds(ratio)
