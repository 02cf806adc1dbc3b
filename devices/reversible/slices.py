"""Integers to bit slices and back: 64 lanes in each word, by transposing 64 x 64 bits at a time.

A slice [wires, words] is uint64: bit l of word i of row b is bit b of the value in lane 64 i + l. Values are integers;
negative ones are taken modulo 2^wires, in two's complement.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hwsim.errors import ConfigError, ShapeError

Slices = npt.NDArray[np.uint64]
Values = npt.NDArray[np.int64]
LANES = 64  # in a word
LOWER_HALVES = (
    (32, 0x00000000FFFFFFFF), (16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F), (2, 0x3333333333333333), (1, 0x5555555555555555),
)  # fmt: skip  # with n: the lower n bits of every 2 n


def pack(values: npt.NDArray[Any], wires: int) -> Slices:
    """The lowest `wires` bits of values [lanes], as slices [wires, words]; lanes that fill the last word are 0.

    Raises ShapeError where values are not integers in one dimension, ConfigError for more than 64 wires.
    """
    if values.ndim != 1 or values.dtype.kind not in "iub":
        raise ShapeError(f"values of shape {values.shape} and type {values.dtype}: give integers, one for each lane")
    _check_wires(wires)
    spare = -len(values) % LANES
    rows = np.pad(values.astype(np.uint64), (0, spare)).reshape(-1, LANES).T.copy()
    for n, lower in LOWER_HALVES:
        if wires <= n:  # the upper rows will not be asked for
            rows &= np.uint64(lower)
            rows = rows[:n] | (rows[n:] << np.uint64(n))
        else:
            _exchange(rows, n, lower)
    return np.ascontiguousarray(rows[:wires])


def unpack(slices: Slices, lanes: int, *, signed: bool) -> Values:
    """The values [lanes] in slices [wires, words]: signed in two's complement, else from 0 to 2^wires - 1.

    Raises ConfigError for more wires than an int64 holds, ShapeError for more lanes than there are.
    """
    wires, words = slices.shape
    _check_wires(wires + (not signed))
    if lanes > LANES * words:
        raise ShapeError(f"{lanes} lanes of {words} words: there are {LANES * words}")
    rows = np.zeros((1 << (wires - 1).bit_length(), words), np.uint64)
    rows[:wires] = slices
    for n, lower in reversed(LOWER_HALVES):
        if n < len(rows):
            _exchange(rows, n, lower)
        else:  # the upper rows are 0
            rows = np.concatenate((rows & np.uint64(lower), (rows >> np.uint64(n)) & np.uint64(lower)))
    values = rows.T.reshape(-1)[:lanes].view(np.int64)
    if signed and wires < LANES:
        values -= (values >> (wires - 1)) << wires
    return values


def _exchange(rows: Slices, n: int, lower: int) -> None:
    """Of every 2 n rows by 2 n bits, exchange the two n x n blocks off the diagonal."""
    pairs = rows.reshape(-1, 2, n, rows.shape[1])
    low, high = pairs[:, 0], pairs[:, 1]
    changed = ((low >> np.uint64(n)) ^ high) & np.uint64(lower)
    high ^= changed
    changed <<= np.uint64(n)
    low ^= changed


def _check_wires(wires: int) -> None:
    if not 1 <= wires <= LANES:
        raise ConfigError(f"values of {wires} wires: from 1 to {LANES} go into an integer, 63 where it is unsigned")
