"""Fixed-point operands, and exact products of integer matrices on floating-point BLAS.

Every scale is a power of two that follows from the values alone, so that equal values give equal integers: a run
backwards finds the same operands again, and with them the same results, on every machine and array library.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from hwsim.arrays import Array, Namespace
from hwsim.errors import DeviceError

LEAST_EXPONENT, LARGEST_EXPONENT = -126, 127  # of a scale and of its inverse, both normal in float32
EXACT_BITS = {"float32": 24, "float64": 53}  # every integer up to 2 to this is exact


class Codes(NamedTuple):
    """Integers, kept in a floating-point array, and the value of one unit."""

    integers: Array
    unit: float


def power_of_two(value: float) -> float:
    """The least power of two that is not below `value`, at least 2^-126; 1 for 0."""
    if value == 0:
        return 1.0
    mantissa, exponent = math.frexp(value)
    return math.ldexp(1.0, min(max(exponent - (mantissa == 0.5), LEAST_EXPONENT), LARGEST_EXPONENT))


def largest(x: Array) -> float:
    """The largest magnitude in x; 0 where x is empty."""
    return max(float(x.max()), -float(x.min())) if x.size else 0.0


def codes(xp: Namespace, x: Array, bits: int, terms: int) -> Codes:
    """x to nearest, ties to even, in integers of magnitude up to 2^(bits - 1) - 1, for sums of `terms` products."""
    unit = power_of_two(largest(x) / ((1 << bits - 1) - 1))
    integers = xp.multiply(x, 1 / unit, dtype=float_type(xp, bits, terms))
    xp.rint(integers, out=integers)
    return Codes(integers, unit)


def sum_bits(bits: int, terms: int) -> int:
    """Bits of the largest sum of `terms` products of `bits` bits: 2 bits - 2 + ceil(log2 terms).

    Products of two's complement are at most 2^(2 bits - 2), so that all partial sums, in any order, fused or not, are
    integers of at most terms x 2^(2 bits - 2).
    """
    return 2 * bits - 2 + max(terms - 1, 0).bit_length()


def host_holds(bits: int, terms: int) -> bool:
    """Whether float32, in which the host keeps results, holds every such sum exactly; short of its range."""
    return sum_bits(bits, terms) <= EXACT_BITS["float32"]


def exact_type(xp: Namespace, bits: int, terms: int) -> Any:
    """The type in which sums of `terms` products of integers of `bits` bits are exact: float32, float64 or int64.

    Raises DeviceError where not even int64 holds them.
    """
    needed = sum_bits(bits, terms)
    for name, held in EXACT_BITS.items():
        if needed <= held:
            return getattr(xp, name)
    if needed > 62:
        raise DeviceError(f"reversible: sums of {terms} products of {bits} bits take {needed + 1} bits; int64 has 64")
    return xp.int64


def float_type(xp: Namespace, bits: int, terms: int) -> Any:
    """The floating-point type to keep operands in until such a product: that in which it is exact, or float64."""
    dtype = exact_type(xp, bits, terms)
    return xp.float64 if dtype is xp.int64 else dtype


def product(xp: Namespace, a: Array, b: Array, bits: int) -> Array:
    """a [..., m, k] @ b [..., k, n], exactly, for integers of `bits` bits in floating-point or integer arrays."""
    dtype = exact_type(xp, bits, a.shape[-1])
    return a.astype(dtype, copy=False) @ b.astype(dtype, copy=False)


def window(most: int, bits: int) -> int:
    """How many lower bits of registers of magnitude up to `most` a product leaves out, to have `bits` with the sign.

    The least number for which all are at most 2^(bits - 1) - 1 after rounding half up.
    """
    shift = max(most.bit_length() - (bits - 1), 0)
    return shift + int(rounded(most, shift) > (1 << bits - 1) - 1)


def rounded(registers: Any, shift: int) -> Any:
    """Integers / 2^shift, to nearest, half up: the upper wires of registers that hold half a unit more (no gate)."""
    return (registers + (1 << shift - 1)) >> shift if shift else registers
