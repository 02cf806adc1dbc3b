"""Random numbers from a counter inside Numba kernels: 64 bits, standard normals, and the logarithm they need.

Imported on first use only: importing this module imports Numba. SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) makes
64 bits of a counter, and the method of Box and Muller (Ann. Math. Stat. 29, 610 (1958)), sine alone, a normal of these.
All is inlined by force, since a loop with a call in it is no vector code. Numba's copies of kernels on the disk know
their own file's age, not that of this one: after a change here, change the files that import it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from hwsim.compiled import compiled

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # the increment and the two multipliers of SplitMix64
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
LOW24, SHIFT40 = np.uint64(0xFFFFFF), np.uint64(40)
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
GAP, MIDDLE = np.float32(2.0**-24), np.float32(2.0**-25)
LN2 = np.float32(0.6931471805599453)
SINE = tuple(
    np.float32(c)
    for c in (1.5707963267948966, -0.6459640975062462, 0.07969262624616703,
              -0.004681754135318687, 0.00016044118478735975, -3.5988432352120853e-06)
)  # fmt: skip  # Taylor series of sin(pi r / 2): (pi/2)^(2i+1) / (2i+1)! with alternating sign


def lowered(function: Callable[..., Any]) -> Any:
    """numba.extending.intrinsic, typed: a function that says its own LLVM code."""
    return intrinsic(function)


@lowered
def pattern(typing: Any, value: Any) -> Any:
    """The bits of a float32 as int32."""
    result = numba.types.int32(value)
    return result, lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], context.get_value_type(numba.types.int32)
    )


@lowered
def number(typing: Any, value: Any) -> Any:
    """The float32 whose bits are this int32."""
    result = numba.types.float32(value)
    return result, lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], context.get_value_type(numba.types.float32)
    )


@compiled(forceinline=True)
def mix(state: Any) -> Any:
    """64 bits from a 64-bit counter."""
    state = (state ^ (state >> np.uint64(30))) * FIRST
    state = (state ^ (state >> np.uint64(27))) * SECOND
    return state ^ (state >> np.uint64(31))


@compiled(forceinline=True, fastmath={"contract"})
def logarithm(u: Any) -> Any:
    """ln u of a normal float32 u > 0: 2 atanh((m-1)/(m+1)) + exponent ln 2, with sqrt(1/2) <= m < sqrt(2)."""
    bits = pattern(u)
    exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    mantissa = number(np.int32(bits - (exponent << np.int32(23))))
    t = (mantissa - ONE) / (mantissa + ONE)
    s = t * t
    series = ((s * np.float32(1 / 9) + np.float32(1 / 7)) * s + np.float32(1 / 5)) * s + np.float32(1 / 3)
    return np.float32(exponent) * LN2 + (t + t) * (series * s + ONE)


@compiled(forceinline=True, fastmath={"contract"})
def polar(bits: Any) -> Any:
    """R^2 = -2 ln u and sin(a) of 64 random bits, a uniform on (-pi/2, pi/2): R sin(a) is a standard normal."""
    u = np.float32(np.int32(bits >> SHIFT40)) * GAP + MIDDLE
    r = np.float32(np.int32(bits & LOW24)) * (GAP + GAP) + (GAP - ONE)
    s = r * r
    sine = ((((SINE[5] * s + SINE[4]) * s + SINE[3]) * s + SINE[2]) * s + SINE[1]) * s + SINE[0]
    return np.float32(-2) * logarithm(u), sine * r


@compiled(forceinline=True, fastmath={"contract"})
def normal(bits: Any) -> Any:
    """A standard normal from 64 random bits."""
    square, sine = polar(bits)
    return np.sqrt(square) * sine


@compiled(forceinline=True)
def largest_of(x: Any) -> Any:
    """max |x|, by the order of the bit patterns of positive floats, which are integers; NaN is larger than infinity."""
    most = np.int32(0)
    for j in range(x.size):
        most = max(most, np.int32(pattern(x[j]) & np.int32(0x7FFFFFFF)))
    return number(most)
